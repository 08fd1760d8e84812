"""Lists the weights of a model before it is built, and counts its multiply-adds."""

import math

from svhn_sweep.config.data_sources import CLASSES, IMAGE_SIZE
from svhn_sweep.config.schema import ModelConfig

KERNEL_SIZE = 3
HEAD = "digits"  # the last layer

Shape = tuple[int, ...]


def weight_shapes(config: ModelConfig) -> dict[str, list[Shape]]:
    """Returns the shapes of each layer's weights of the model that `build_model` builds.

    Returns:
        By the layer's name, in the order of the layers; layers without weights are left out.
    """
    shapes: dict[str, list[Shape]] = {}
    channels = 1
    size = IMAGE_SIZE
    for number in range(1, len(config.filters) + 1):
        name = f"conv{number}"
        filters = config.filters[name]
        shapes[name] = [(KERNEL_SIZE, KERNEL_SIZE, channels, filters), (filters,)]
        channels = filters
        if number % 2 == 0:  # a pair ends
            size //= 2
            if config.batch_norm:  # scale, offset, mean and variance
                shapes[f"batch_norm{number // 2}"] = [(filters,)] * 4
    shapes["dense"] = [(size * size * channels, config.dense_units), (config.dense_units,)]
    shapes[HEAD] = [(config.dense_units, CLASSES), (CLASSES,)]
    return shapes


def count_parameters(config: ModelConfig) -> int:
    """Returns the number of weights of the model that `training.model.build_model` builds.

    Those of batch normalization that are not trained count too, as in Keras' `count_params`.
    """
    return sum(math.prod(shape) for shapes in weight_shapes(config).values() for shape in shapes)


def count_multiply_adds(config: ModelConfig) -> int:
    """Returns the multiplications by a weight that the prediction of one image takes.

    Each comes with an addition. Those of convolutions and dense layers count, as is the custom;
    biases, batch normalization, activations and pools take less than a hundredth of them.
    """
    count = 0
    for name, (kernel, *_) in weight_shapes(config).items():
        if name in config.filters:
            pools_before = (int(name.removeprefix("conv")) - 1) // 2
            count += math.prod(kernel) * (IMAGE_SIZE >> pools_before) ** 2
        elif name in ("dense", HEAD):
            count += math.prod(kernel)
    return count
