"""Computes what a model of `build_model` computes, over the same variables, in less time.

Each step is the same function:

- The activation of a pair's second convolution stands behind the 2x2 max pool. A leaky ReLU whose
  slope is not negative is monotonic, so it commutes with the maximum, and it then has a quarter of
  the numbers to compute.
- Batch normalization is TensorFlow's fused operation instead of some twenty elementary ones. It
  normalizes by the same biased variance, in float32.
- Adam is TensorFlow's fused operation, one for each variable, instead of some ten.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers


class FastModel(keras.Model):
    """Shares the variables of a model; what is trained here is trained there.

    Attributes:
        notebook_model: The model, of the notebook's layers in the notebook's order.
    """

    def __init__(self, notebook_model: keras.Sequential) -> None:
        """Creates no variable of its own.

        Args:
            notebook_model: From `build_model`.
        """
        super().__init__(name=f"fast_{notebook_model.name}")
        self.notebook_model = notebook_model
        self.built = True  # all layers are

    def call(self, pixels: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the probabilities, float32 [N, 10], of float32 pixels [N, 32, 32, 1] in 0..255.

        Args:
            pixels: The images.
            training: Whether dropout and the statistics of the batch are used.
        """
        values = pixels
        for layer in _pool_first(self.notebook_model.layers):
            if isinstance(layer, layers.BatchNormalization):
                values = _normalize(layer, values, training=bool(training))
            else:
                values = layer(values, training=training)
        return values

    def measure_statistics(self, pixels: tf.Tensor) -> None:
        """Sets the statistics of the batch normalizations, unless frozen, to those of images.

        An average of weights has other statistics than the weights that it is an average of.

        Args:
            pixels: Training images, float32 [N, 32, 32, 1] in 0..255.
        """
        values = pixels
        for layer in _pool_first(self.notebook_model.layers):
            if isinstance(layer, layers.BatchNormalization):
                if layer.trainable:
                    mean, variance = tf.nn.moments(tf.cast(values, tf.float32), axes=[0, 1, 2])
                    layer.moving_mean.assign(mean)
                    layer.moving_variance.assign(variance)
                values = _normalize(layer, values, training=False)
            else:
                values = layer(values, training=False)


class FusedAdam(keras.optimizers.Adam):
    """Keras' Adam with one operation for each variable; equal to rounding. It has no `amsgrad`."""

    def update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Updates a variable and its two moments, which Keras' Adam has created.

        Args:
            gradient: Of the loss with respect to the variable.
            variable: A trainable float32 variable.
            learning_rate: A float32 scalar.
        """
        # The private names are those by which each optimizer of Keras finds its variables.
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


def _pool_first(stack: Sequence[keras.Layer]) -> list[keras.Layer]:
    """Returns the layers with each max pool before the activation that it follows."""
    ordered = list(stack)
    for index, layer in enumerate(stack):
        if isinstance(layer, layers.MaxPooling2D):
            activation = stack[index - 1]
            assert isinstance(activation, layers.LeakyReLU), f"{layer.name} follows no activation"
            ordered[index - 1 : index + 1] = layer, activation
    return ordered


def _normalize(layer: layers.BatchNormalization, values: tf.Tensor, *, training: bool) -> tf.Tensor:
    arguments: dict[str, Any] = {
        "x": values,
        "scale": layer.gamma.value,
        "offset": layer.beta.value,
        "epsilon": layer.epsilon,
    }
    if not (training and layer.trainable):
        return tf.raw_ops.FusedBatchNormV3(
            **arguments,
            mean=layer.moving_mean.value,
            variance=layer.moving_variance.value,
            is_training=False,
        ).y
    normalized = tf.raw_ops.FusedBatchNormV3(**arguments, mean=[], variance=[], is_training=True)
    # The operation returns the unbiased variance of the batch, Keras averages the biased one. Of a
    # single value the unbiased one is NaN on GPUs (tensorflow#34062), the biased one 0.
    n = tf.reduce_prod(tf.cast(tf.shape(values)[:-1], tf.float32))
    variance = tf.math.multiply_no_nan(normalized.batch_variance, n - 1) / n
    for average, value in (
        (layer.moving_mean, normalized.batch_mean),
        (layer.moving_variance, variance),
    ):
        average.assign(average * layer.momentum + value * (1 - layer.momentum))
    return normalized.y
