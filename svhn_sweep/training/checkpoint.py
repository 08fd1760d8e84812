"""Saves the state of a fit after an epoch in one file, from which any process can resume it."""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np
from numpy.typing import NDArray

from svhn_sweep.errors import DataError
from svhn_sweep.files import open_atomically, sync_folder

HISTORY = "history"
READ_ERRORS = (  # what NumPy raises for a damaged file
    OSError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    RuntimeError,
    zipfile.BadZipFile,
)

Value = TypeVar("Value")


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds besides the variables of the model and of its optimizer.

    Attributes:
        history: The metrics of each epoch so far.
        evaluated_weights: Those of the fit's evaluation, as `model.get_weights()` returns them.
    """

    history: list[dict[str, float]]
    evaluated_weights: list[NDArray[np.float32]]


def save(
    path: Path,
    model: keras.Model,
    history: list[dict[str, float]],
    evaluated_weights: list[NDArray[np.float32]],
) -> None:
    """Writes a checkpoint in one atomic step: a crash leaves the previous file or the new one.

    The file is an .npz without pickles: `model/N` and `optimizer/N` are all variables in their
    order, `evaluated/N` the evaluated weights, `history` is JSON, which keeps each float exactly.

    Args:
        path: The file; its folder must exist.
        model: A compiled model, its optimizer built.
        history: The metrics of each epoch so far.
        evaluated_weights: As `model.get_weights()` returned them.
    """
    arrays: dict[str, Any] = {
        name: keras.ops.convert_to_numpy(value) for name, value in _variables(model).items()
    }
    arrays |= _numbered("evaluated", evaluated_weights)
    arrays[HISTORY] = np.array(json.dumps(history))
    with open_atomically(path) as file:
        np.savez(file, **arrays)
    sync_folder(path.parent)


def load(path: Path, model: keras.Model) -> Checkpoint:
    """Sets all variables of a model and of its optimizer to what `save` wrote.

    Args:
        path: The file.
        model: A compiled model, its optimizer built, of the saved one's architecture.

    Raises:
        DataError: The file is damaged or holds another model; no variable is changed then.
    """
    arrays, history = _read(path)
    variables = _variables(model)
    evaluated = _numbered("evaluated", model.weights)
    expected = _formats(variables | evaluated)
    actual = _formats(arrays)
    for name in expected | actual:
        if actual.get(name) != expected.get(name):
            raise DataError(
                f"{path} must hold a checkpoint of this model but its {name} is "
                f"{actual.get(name, 'missing')} where the model's is "
                f"{expected.get(name, 'missing')}; remove the file to begin this trial again."
            )
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return Checkpoint(history, [arrays[name] for name in evaluated])


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], list[dict[str, float]]]:
    """The arrays by name, and the history; reading all of them checks all checksums."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        history: list[dict[str, float]] = json.loads(arrays.pop(HISTORY).item())
    except READ_ERRORS as error:
        raise DataError(
            f"{path} must be a checkpoint but cannot be read ({error}); remove the file "
            "to begin this trial again."
        ) from error
    return arrays, history


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    return _numbered("model", model.variables) | _numbered("optimizer", model.optimizer.variables)


def _numbered(group: str, values: Sequence[Value]) -> dict[str, Value]:
    return {f"{group}/{index}": value for index, value in enumerate(values)}


def _formats(values: dict[str, Any]) -> dict[str, str]:
    """The dtype and shape of arrays or variables, as in `float32 [3, 3, 1, 16]`."""
    return {name: f"{value.dtype} {list(value.shape)}" for name, value in values.items()}
