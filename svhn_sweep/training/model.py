"""One builder for both models."""

from random import Random

import keras
from keras import layers

from svhn_sweep.config.schema import AugmentationConfig, ModelConfig, Precision

INPUT_SHAPE = (32, 32, 1)  # grey pixels, 0..255
CLASSES = 10


def build_model(
    config: ModelConfig, augmentation: AugmentationConfig, precision: Precision, seed: int
) -> keras.Sequential:
    """An untrained classifier from raw pixels to probabilities.

    Convolutions come in pairs, each pair followed by a 2x2 max pool and, if `batch_norm`, a batch
    normalisation; then one dense layer, dropout, and a softmax over the digits. Each convolution
    and the dense layer has a leaky ReLU. The notebook's stands before the pool, this one after it:
    it never falls with its input, so the maxima are the same, made of a quarter of the numbers (4
    to 9 % of a training's time). The precision is set on each layer, never globally, because one
    process builds many models; rescaling and softmax stay float32 (in bfloat16 probabilities round
    to 1.0).

    Args:
        config: filters by name, conv1 first; at `dropout` 0 there is no dropout layer.
        augmentation: active in training only.
        precision: the dtype policy of the layers.
        seed: of the initial weights, the dropout and the augmentation.

    Returns:
        A model from float [N, 32, 32, 1] in 0..255 to float32 [N, 10].
    """
    dtype = precision.value
    # not the global one, from which another thread could draw in between
    random = Random(seed)  # noqa: S311

    def weights() -> keras.Initializer:
        return keras.initializers.GlorotUniform(random.randint(1, 10**9))

    def leaky_relu(name: str) -> keras.Layer:
        return layers.LeakyReLU(config.leaky_relu_slope, name=f"{name}_leaky_relu", dtype=dtype)

    stack: list[keras.Layer] = [layers.Rescaling(1 / 255, name="rescale", dtype="float32")]
    if augmentation.enabled:
        stack += _augmentation_layers(augmentation, seed)
    for index, name in enumerate(sorted(config.filters, key=_position), start=1):
        options = {"padding": "same", "kernel_initializer": weights(), "name": name, "dtype": dtype}
        stack.append(layers.Conv2D(config.filters[name], 3, **options))
        if index % 2 == 0:
            stack.append(layers.MaxPooling2D(2, name=f"pool{index // 2}", dtype=dtype))
        stack.append(leaky_relu(name))
        if index % 2 == 0 and config.batch_norm:
            stack.append(layers.BatchNormalization(name=f"batch_norm{index // 2}", dtype=dtype))
    stack += [layers.Flatten(name="flatten", dtype=dtype)]
    stack.append(
        layers.Dense(config.dense_units, kernel_initializer=weights(), name="dense", dtype=dtype)
    )
    stack.append(leaky_relu("dense"))
    if config.dropout > 0:
        stack.append(layers.Dropout(config.dropout, seed=seed, name="dropout", dtype=dtype))
    stack.append(
        layers.Dense(
            CLASSES,
            activation="softmax",
            kernel_initializer=weights(),
            name="digits",
            dtype="float32",
        )
    )
    return keras.Sequential([keras.Input(INPUT_SHAPE, name="pixels"), *stack], name=config.name)


def summary(model: keras.Model) -> str:
    """Keras' table of layers and parameters, as text."""
    lines: list[str] = []
    model.summary(line_length=80, print_fn=lines.append)
    return "\n".join(lines) + "\n"


def _position(name: str) -> int:
    return int(name.removeprefix("conv"))


def _augmentation_layers(config: AugmentationConfig, seed: int) -> list[keras.Layer]:
    common = {"fill_mode": "nearest", "seed": seed, "dtype": "float32"}
    return [
        layers.RandomTranslation(config.shift, config.shift, name="augment_shift", **common),
        layers.RandomRotation(config.rotation, name="augment_rotation", **common),
        layers.RandomZoom(config.zoom, name="augment_zoom", **common),
    ]
