"""Judges a model by the average of its weights over the steps of training."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from svhn_sweep.data.splits import Images
from svhn_sweep.training.fast_model import FastModel

# A channel's mean is known to 3 % of its deviation at worst, 1 / sqrt(1024): if all of an image's
# numbers in it are alike.
STATISTICS_IMAGES = 1024


@contextmanager
def averaged_weights(model: FastModel, images: Images) -> Iterator[None]:
    """Lets a model hold the average of its weights; afterwards it holds its own again.

    The statistics of the batch normalizations are measured anew with the average, on images
    without augmentation; those of the training belong to other weights.

    Args:
        model: A compiled model whose optimizer averages the weights (`ema_momentum`).
        images: The training images. Of many, evenly spaced ones are used: a file may be sorted by
            label.
    """
    weights = model.get_weights()
    model.optimizer.finalize_variable_values(model.trainable_variables)
    count = min(len(images), STATISTICS_IMAGES)
    model.measure_statistics(images[np.linspace(0, len(images) - 1, count).astype(int)])
    try:
        yield
    finally:
        model.set_weights(weights)
