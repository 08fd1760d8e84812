"""Begins a training with the weights of a saved model, of which some may be kept as they are.

A saved model is read without Keras, so that a command that refuses one answers before TensorFlow is
imported, and a sweep's driver needs no TensorFlow.
"""

import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from numpy.typing import NDArray

from svhn_sweep.config.model_size import HEAD, Shape, weight_shapes
from svhn_sweep.config.schema import ModelConfig
from svhn_sweep.errors import ConfigError, DataError

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

Arrays = list[NDArray[np.float32]]

READ_ERRORS = (OSError, KeyError, TypeError, ValueError, RuntimeError, zipfile.BadZipFile)


@dataclass(frozen=True)
class InitialWeights:
    """The saved model that a training begins with.

    Attributes:
        address: What `training.initial_weights` resolves to: `runs:/ID`, or the path of a file.
        file: Keras' file on this machine.
        sha256: Its hexadecimal digest.
        origin: What is known of the run that saved it, as params of the new run.
    """

    address: str
    file: Path
    sha256: str
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def params(self) -> dict[str, str]:
        """The params with which a run records where its weights come from."""
        return {"initial_weights.sha256": self.sha256, **self.origin}


def fitting_weights(weights: InitialWeights, config: ModelConfig) -> dict[str, Arrays]:
    """Returns the saved weights by the names of the layers that they fit.

    The layers of both models are paired in their order, whatever their names. The last layer is
    left out if its weights do not fit: other labels need another one.

    Args:
        weights: The saved model.
        config: The architecture of the model to train.

    Raises:
        ConfigError: The weights of a layer other than the last one do not fit.
        DataError: The file has changed, or is no saved model of Keras 3.
    """
    saved = _read(weights)
    fitting: dict[str, Arrays] = {}
    for (name, shapes), (saved_name, arrays) in zip_longest(
        weight_shapes(config).items(), saved, fillvalue=("", [])
    ):
        saved_shapes = [array.shape for array in arrays]
        if saved_shapes == shapes:
            fitting[name] = list(arrays)
        elif name != HEAD or len(saved) > len(weight_shapes(config)):
            raise ConfigError(
                _misfit(weights, config, (saved_name, saved_shapes), (name, list(shapes)))
            )
    return fitting


def take_over(model: "keras.Sequential", weights: InitialWeights, config: ModelConfig) -> None:
    """Sets the weights of a model to the saved ones; a last layer that does not fit stays new.

    Args:
        model: From `build_model`, untrained.
        weights: The saved model.
        config: The architecture of `model`.

    Raises:
        ConfigError, DataError: As `fitting_weights`; no weight is changed then.
    """
    fitting = fitting_weights(weights, config)
    for name, arrays in fitting.items():
        model.get_layer(name).set_weights(arrays)
    logger.info("initial weights of %s in %s", weights.address, ", ".join(fitting))


def freeze(model: "keras.Sequential", count: int) -> None:
    """Keeps the first convolutions as they are, and each batch normalization that follows them.

    A frozen batch normalization uses its statistics, and does not update them, in training too.

    Args:
        model: From `build_model`, not compiled yet.
        count: The number of convolutions, from the input.
    """
    frozen = {f"conv{number}" for number in range(1, count + 1)}
    frozen |= {f"batch_norm{pair}" for pair in range(1, count // 2 + 1)}
    for layer in model.layers:
        if layer.name in frozen:
            layer.trainable = False


def _read(weights: InitialWeights) -> list[tuple[str, Arrays]]:
    """The name and the weights of each layer that has any, in the order of the layers."""
    try:
        content = weights.file.read_bytes()
        if hashlib.sha256(content).hexdigest() != weights.sha256:
            raise DataError(
                f"{weights.file} must not change while it is used but has another SHA-256 now."
            )
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [
                layer["config"]["name"]
                for layer in json.loads(archive.read("config.json"))["config"]["layers"]
            ]
            with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
                groups = [group["vars"] for group in file["layers"].values()]
                arrays_by_name = {str(group.attrs["name"]): _arrays(group) for group in groups}
    except READ_ERRORS as error:
        raise DataError(
            f"{weights.address} must be a model that Keras 3 saved, layer after layer, but cannot "
            f"be read as one: {error!r}."
        ) from error
    return [(name, arrays_by_name[name]) for name in names if arrays_by_name.get(name)]


def _arrays(group: h5py.Group) -> Arrays:
    return [group[str(index)][()].astype(np.float32) for index in range(len(group))]


def _misfit(
    weights: InitialWeights,
    config: ModelConfig,
    saved: tuple[str, Sequence[Shape]],
    expected: tuple[str, Sequence[Shape]],
) -> str:
    """Names the layer of both models, and both shapes of its first weights that differ."""
    (saved_name, saved_shapes), (name, shapes) = saved, expected
    saved_shape, shape = next(
        pair for pair in zip_longest(saved_shapes, shapes) if pair[0] != pair[1]
    )
    own = "" if name in ("", saved_name) else f" {name}"
    return (
        f"training.initial_weights must fit {config.name} but the layer {saved_name or name} of "
        f"{weights.address} is {_format(saved_shape)} where the model's{own} is "
        f"{_format(shape)}{_advice(name, saved_shape, shape)}."
    )


def _format(shape: Shape | None) -> str:
    return "missing" if shape is None else str(list(shape))


def _advice(name: str, saved: Shape | None, own: Shape | None) -> str:
    """The override with which a layer fits that differs only in the number of its outputs."""
    if saved is None or own is None or saved[:-1] != own[:-1] or len(own) == 1:
        return ""
    key = "model.dense_units" if name == "dense" else f"model.filters.{name}"
    return f"; {key}={saved[-1]} fits"
