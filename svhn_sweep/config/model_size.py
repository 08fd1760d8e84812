"""Counts the parameters of a model before it is built."""

from svhn_sweep.config.schema import ModelConfig

IMAGE_SIZE = 32  # pixels
CLASSES = 10
KERNEL = 3 * 3


def count_parameters(config: ModelConfig) -> int:
    """Returns the number of weights of the model that `training.model.build_model` builds.

    Those of batch normalization that are not trained count too, as in Keras' `count_params`.
    """
    channels = 1
    size = IMAGE_SIZE
    count = 0
    names = sorted(config.filters, key=lambda name: int(name.removeprefix("conv")))
    for number, name in enumerate(names, start=1):
        filters = config.filters[name]
        count += (KERNEL * channels + 1) * filters
        channels = filters
        if number % 2 == 0:  # a pair ends
            size //= 2
            count += 4 * filters if config.batch_norm else 0
    count += (size * size * channels + 1) * config.dense_units
    return count + (config.dense_units + 1) * CLASSES
