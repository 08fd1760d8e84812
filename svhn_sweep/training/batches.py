"""Feeds the training images to Keras in batches, ordered and augmented anew in each epoch."""

import math

import tensorflow as tf

from svhn_sweep.config.data_sources import CLASSES
from svhn_sweep.config.schema import AugmentationConfig
from svhn_sweep.data.splits import Images, Labels
from svhn_sweep.training.augmentation import random_transforms, transform


def training_batches(
    images: Images,
    labels: Labels,
    batch_size: int,
    augmentation: AugmentationConfig,
    seed: int,
    epoch: tf.Variable,
) -> tf.data.Dataset:
    """Returns a dataset that yields one epoch's batches whenever it is iterated over.

    Its length is known, else Keras warns at the end of each epoch that the data ran out.

    Args:
        images: The training images.
        labels: Their labels.
        batch_size: Images in each batch; the last one may have fewer.
        augmentation: How the images are changed.
        seed: The order and the augmentation depend on this and on the epoch alone.
        epoch: An int64 variable on the CPU, from 0, read whenever an iteration begins.

    Returns:
        Batches of float32 images [B, 32, 32, 1] and float32 one-hot labels [B, 10].
    """
    with tf.device("CPU"):  # where the batches are put together
        # tf.constant holds memory for twice the images
        x = tf.identity(images)
        y = tf.one_hot(labels, CLASSES)

    def batch(index: tf.Tensor, *transforms: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chosen = tf.gather(x, index)
        if augmentation.enabled:
            chosen = transform(chosen, *transforms)
        return chosen, tf.gather(y, index)

    steps = math.ceil(len(images) / batch_size)
    # the only element of the outer dataset makes each iteration read the epoch anew
    drawn = tf.data.Dataset.range(1).flat_map(
        lambda _: _draw(len(images), augmentation, seed, epoch).batch(batch_size)
    )
    drawn = drawn.apply(tf.data.experimental.assert_cardinality(steps))
    options = tf.data.Options()
    # The autotuner's thread sleeps ever longer, and the end of the fit waits for it: up to 40 s.
    options.autotune.enabled = False
    return drawn.map(batch).prefetch(2).with_options(options)


def _draw(
    n_images: int, augmentation: AugmentationConfig, seed: int, epoch: tf.Variable
) -> tf.data.Dataset:
    """An epoch's images in its order: their indices and, if augmented, their transforms."""
    order = tf.random.experimental.stateless_shuffle(
        tf.range(n_images), seed=[tf.cast(seed, tf.int64), epoch]
    )
    drawn = [order]
    if augmentation.enabled:
        drawn.append(random_transforms(augmentation, n_images, seed, epoch))
    return tf.data.Dataset.from_tensor_slices(tuple(drawn))
