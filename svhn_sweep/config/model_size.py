"""Counts the parameters and the multiply-adds of a model before it is built."""

from collections.abc import Iterator
from dataclasses import dataclass

from svhn_sweep.config.schema import ModelConfig

IMAGE_SIZE = 32  # pixels
CLASSES = 10
KERNEL = 3 * 3


@dataclass(frozen=True)
class _Convolution:
    channels: int  # of its input
    filters: int
    size: int  # of its input and output, in pixels
    ends_pair: bool


def count_parameters(config: ModelConfig) -> int:
    """Returns the number of weights of the model that `training.model.build_model` builds.

    Those of batch normalization that are not trained count too, as in Keras' `count_params`.
    """
    count = 0
    for layer in _convolutions(config):
        count += (KERNEL * layer.channels + 1) * layer.filters
        if layer.ends_pair and config.batch_norm:
            count += 4 * layer.filters
    count += (_flat_size(config) + 1) * config.dense_units
    return count + (config.dense_units + 1) * CLASSES


def count_multiply_adds(config: ModelConfig) -> int:
    """Returns the multiplications by a weight that the prediction of one image takes.

    Each comes with an addition. Those of convolutions and dense layers count, as is the custom;
    biases, batch normalization, activations and pools take less than a hundredth of them.
    """
    count = sum(
        KERNEL * layer.channels * layer.filters * layer.size**2 for layer in _convolutions(config)
    )
    return count + _flat_size(config) * config.dense_units + config.dense_units * CLASSES


def _convolutions(config: ModelConfig) -> Iterator[_Convolution]:
    channels = 1
    names = sorted(config.filters, key=lambda name: int(name.removeprefix("conv")))
    for index, name in enumerate(names):
        filters = config.filters[name]
        yield _Convolution(channels, filters, IMAGE_SIZE >> index // 2, index % 2 == 1)
        channels = filters


def _flat_size(config: ModelConfig) -> int:
    """The inputs of the hidden dense layer."""
    *_, last = _convolutions(config)
    return (last.size // 2) ** 2 * last.filters
