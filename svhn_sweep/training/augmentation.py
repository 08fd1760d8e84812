"""Shifts, rotates and zooms training images at random, by one interpolation for each image."""

import math

import tensorflow as tf

from svhn_sweep.config.data_sources import IMAGE_SIZE
from svhn_sweep.config.schema import AugmentationConfig

NOISE = 1  # keeps the numbers drawn here apart from those that order the batches


def random_transforms(
    config: AugmentationConfig, n_images: int, seed: int, epoch: tf.Tensor
) -> tf.Tensor:
    """Draws a transform for each image, uniformly within the limits of the config.

    Args:
        config: The limits. The zoom is the same in both directions.
        n_images: N.
        seed: The draws depend on this and on the epoch alone.
        epoch: int64, from 0.

    Returns:
        float32 [N, 8]: for each image a0, a1, a2, b0, b1, b2, 0, 0. The pixel (x, y) of the
        transformed image is the pixel (a0 x + a1 y + a2, b0 x + b1 y + b2) of the image.
    """
    noise = tf.random.experimental.stateless_fold_in([tf.cast(seed, tf.int64), epoch], NOISE)
    unit = tf.random.stateless_uniform((4, n_images), noise, minval=-1.0, maxval=1.0)
    shift_x = unit[0] * config.shift * IMAGE_SIZE
    shift_y = unit[1] * config.shift * IMAGE_SIZE
    angle = unit[2] * config.rotation * 2 * math.pi
    zoom = 1 + unit[3] * config.zoom
    cos = zoom * tf.cos(angle)
    sin = zoom * tf.sin(angle)
    center = (IMAGE_SIZE - 1) / 2
    zero = tf.zeros(n_images)
    return tf.stack(
        [
            *(cos, -sin, center + shift_x - cos * center + sin * center),
            *(sin, cos, center + shift_y - sin * center - cos * center),
            *(zero, zero),
        ],
        axis=1,
    )


def transform(images: tf.Tensor, transforms: tf.Tensor) -> tf.Tensor:
    """Transforms images, interpolating bilinearly; beyond the edge the nearest pixel continues.

    Args:
        images: float32 [B, 32, 32, 1].
        transforms: From `random_transforms`, float32 [B, 8].

    Returns:
        float32 [B, 32, 32, 1].
    """
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=[IMAGE_SIZE, IMAGE_SIZE],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
