"""Judges a model by the average of its weights over the steps of training."""

from collections.abc import Iterator
from contextlib import contextmanager

from svhn_sweep.data.splits import Images
from svhn_sweep.training.fast_model import FastModel

# Each channel has at least 64 numbers in an image, so its mean is known to 0.4 % of its deviation.
STATISTICS_IMAGES = 1024


@contextmanager
def averaged_weights(model: FastModel, images: Images) -> Iterator[None]:
    """Lets a model hold the average of its weights; afterwards it holds its own again.

    The statistics of the batch normalizations are measured anew with the average, on images
    without augmentation; those of the training belong to other weights.

    Args:
        model: A compiled model whose optimizer averages the weights (`ema_momentum`).
        images: The training images; the first ones are used.
    """
    weights = model.get_weights()
    model.optimizer.finalize_variable_values(model.trainable_variables)
    model.measure_statistics(images[:STATISTICS_IMAGES])
    try:
        yield
    finally:
        model.set_weights(weights)
