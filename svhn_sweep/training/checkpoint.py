"""Where a fit stands after an epoch: one file, from which another process goes on as if nothing
had happened.
"""

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from svhn_sweep.errors import DataError

HISTORY = "history"
DAMAGE = (
    OSError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    RuntimeError,
    zipfile.BadZipFile,
)  # as NumPy meets it


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds besides the model's and its optimizer's variables.

    Attributes:
        history: the metrics of each epoch so far.
        best_weights: the best epoch's, as `model.get_weights()` gives them; None if they were not
            kept.
    """

    history: list[dict[str, float]]
    best_weights: list[NDArray[np.float32]] | None


def save(
    path: Path,
    model: keras.Model,
    history: list[dict[str, float]],
    best_weights: list[NDArray[np.float32]] | None,
) -> None:
    """Write `path` as one atomic step: a crash, even of the machine, leaves the checkpoint before
    or this one.

    The file is an .npz without pickles: `model/N` and `optimizer/N` are all variables in their
    order, `best/N` the best weights, `history` is JSON, in which each float is exact.

    Args:
        path: in a folder that exists.
        model: compiled, its optimizer built.
        history: the metrics of each epoch so far.
        best_weights: as `model.get_weights()` gave them, or None.
    """
    arrays: dict[str, Any] = {
        name: keras.ops.convert_to_numpy(value) for name, value in _variables(model).items()
    }
    arrays |= _numbered("best", best_weights or [])
    arrays[HISTORY] = np.array(json.dumps(history))
    unfinished = path.with_name(
        f".{path.name}.unfinished"
    )  # what a kill leaves of it, the next one overwrites
    try:
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    _sync_folder(path.parent)


def load(path: Path, model: keras.Model) -> Checkpoint:
    """Set all variables of the model and of its optimizer to what `save` wrote.

    Args:
        path: exists.
        model: compiled, its optimizer built, with the architecture of the saved one.

    Raises:
        DataError: the file is damaged or holds another model; no variable is changed then.
    """
    arrays, history = _read(path)
    variables = _variables(model)
    best = _numbered("best", model.weights)
    has_best = not best.keys().isdisjoint(arrays)
    expected = _formats(variables | best if has_best else variables)
    found = _formats(arrays)
    for name in expected | found:
        if found.get(name) != expected.get(name):
            raise DataError(
                f"{path} must hold a checkpoint of this model but its {name} is "
                f"{found.get(name, 'missing')} where the "
                f"model's is {expected.get(name, 'missing')}; remove "
                "the file to begin this trial again."
            )
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return Checkpoint(history, [arrays[name] for name in best] if has_best else None)


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], list[dict[str, float]]]:
    """All arrays by name, and the history: all is read, and so compared with its checksums,
    before any is used.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        history: list[dict[str, float]] = json.loads(arrays.pop(HISTORY).item())
    except DAMAGE as error:
        raise DataError(
            f"{path} must be a checkpoint but cannot be read ({error}); remove the file "
            "to begin this trial again."
        ) from error
    return arrays, history


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    return _numbered("model", model.variables) | _numbered("optimizer", model.optimizer.variables)


def _numbered(group: str, values: list[Any]) -> dict[str, Any]:
    return {f"{group}/{index}": value for index, value in enumerate(values)}


def _formats(values: dict[str, Any]) -> dict[str, str]:
    """The type and shape of arrays or variables, as in `float32 [3, 3, 1, 16]`."""
    return {name: f"{value.dtype} {list(value.shape)}" for name, value in values.items()}


def _sync_folder(folder: Path) -> None:
    """Until then the new name itself could be lost with the machine's power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
