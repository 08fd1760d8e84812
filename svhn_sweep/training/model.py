"""Builds the Keras model of a config: any number of pairs of convolutions."""

from random import Random

import keras
import numpy as np
from keras import layers

from svhn_sweep.config.data_sources import CLASSES, IMAGE_SIZE
from svhn_sweep.config.model_size import HEAD, KERNEL_SIZE
from svhn_sweep.config.schema import ModelConfig, Precision

INPUT_SHAPE = (IMAGE_SIZE, IMAGE_SIZE, 1)  # grey pixels, 0..255
SEED_VARIABLE = "seed_generator_state"  # Keras' name for the random state of a dropout layer


def build_model(config: ModelConfig, precision: Precision, seed: int) -> keras.Sequential:
    """Returns an untrained classifier from raw pixels to probabilities.

    Convolutions come in pairs, each pair followed by a 2x2 max pool and, if `batch_norm`, a batch
    normalization; then one dense layer, dropout, and a softmax over the digits. Each convolution
    and the dense layer has a leaky ReLU. The precision is set on each layer, never globally,
    because one process builds many models; rescaling and softmax stay float32 (in bfloat16
    probabilities round to 1.0).

    Args:
        config: The architecture; with `dropout` 0 there is no dropout layer.
        precision: The dtype policy of the layers.
        seed: The seed of the initial weights and the dropout.

    Returns:
        A model from float [N, 32, 32, 1] in 0..255 to float32 [N, 10].
    """
    # not Python's global generator, from which another thread could draw in between
    random = Random(seed)  # noqa: S311
    stack = [
        keras.Input(INPUT_SHAPE, name="pixels"),
        layers.Rescaling(1 / 255, name="rescale", dtype="float32"),
    ]
    stack += _convolutional_layers(config, precision, random)
    stack += _dense_layers(config, precision, random, seed)
    return keras.Sequential(stack, name=config.name)


def seed_noise(model: keras.Model, seed: int, epoch: int) -> None:
    """Makes the dropout of an epoch depend on the seed and the epoch alone.

    Args:
        model: From `build_model`; each of its dropout layers gets a seed of its own.
        seed: The seed of the trial.
        epoch: The epoch, from 0.

    Raises:
        RuntimeError: The dropout's state is not found; the fit could not be repeated then.
    """
    states = [variable for variable in model.variables if variable.name == SEED_VARIABLE]
    n_random = sum(isinstance(layer, layers.Dropout) for layer in model.layers)
    if len(states) != n_random:
        raise RuntimeError(
            f"Keras {keras.__version__} must have a variable {SEED_VARIABLE} in each layer with "
            f"random numbers but the model has {len(states)} of them in {n_random} such layers."
        )
    seeds = np.random.SeedSequence((seed, epoch)).generate_state(2 * len(states))
    for state, layer_seed in zip(states, seeds.reshape(-1, 2), strict=True):
        state.assign(layer_seed)


def summary(model: keras.Model) -> str:
    """Returns Keras' table of layers and parameters."""
    lines: list[str] = []
    model.summary(line_length=80, print_fn=lines.append)
    return "\n".join(lines) + "\n"


def _convolutional_layers(
    config: ModelConfig, precision: Precision, random: Random
) -> list[keras.Layer]:
    dtype = precision.value
    stack = []
    for number in range(1, len(config.filters) + 1):
        name = f"conv{number}"
        options = {"padding": "same", "kernel_initializer": _initializer(random), "dtype": dtype}
        stack.append(layers.Conv2D(config.filters[name], KERNEL_SIZE, name=name, **options))
        stack.append(_leaky_relu(config, name, dtype))
        if number % 2 == 0:
            pair = number // 2
            stack.append(layers.MaxPooling2D(2, name=f"pool{pair}", dtype=dtype))
            if config.batch_norm:
                stack.append(layers.BatchNormalization(name=f"batch_norm{pair}", dtype=dtype))
    return stack


def _dense_layers(
    config: ModelConfig, precision: Precision, random: Random, seed: int
) -> list[keras.Layer]:
    dtype = precision.value
    hidden = {"kernel_initializer": _initializer(random), "name": "dense", "dtype": dtype}
    output = {"kernel_initializer": _initializer(random), "name": HEAD, "dtype": "float32"}
    stack = [
        layers.Flatten(name="flatten", dtype=dtype),
        layers.Dense(config.dense_units, **hidden),
        _leaky_relu(config, "dense", dtype),
    ]
    if config.dropout > 0:
        stack.append(layers.Dropout(config.dropout, seed=seed, name="dropout", dtype=dtype))
    return [*stack, layers.Dense(CLASSES, activation="softmax", **output)]


def _initializer(random: Random) -> keras.Initializer:
    return keras.initializers.GlorotUniform(random.randint(1, 10**9))


def _leaky_relu(config: ModelConfig, name: str, dtype: str) -> keras.Layer:
    return layers.LeakyReLU(config.leaky_relu_slope, name=f"{name}_leaky_relu", dtype=dtype)
