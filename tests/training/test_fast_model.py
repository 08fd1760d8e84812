"""The fast model and its notebook model are the same function, up to rounding."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from svhn_sweep.config.schema import Config, Precision
from svhn_sweep.training.fast_model import FastModel, FusedAdam
from svhn_sweep.training.model import build_model

Composed = Callable[..., Config]
Arrays = tuple[np.ndarray, np.ndarray]
CASES = [
    [],
    ["model=model1"],
    ["model.batch_norm=false"],
    ["model.filters.conv1=3", "model.filters.conv4=5"],
    ["model.leaky_relu_slope=0"],
    [f"+model.filters.conv{number}=4" for number in range(5, 11)],  # the last pool leaves a pixel
]


@pytest.fixture(params=CASES, ids=" ".join)
def config(composed: Composed, request: pytest.FixtureRequest) -> Config:
    """A config without dropout, which would be drawn anew in each call."""
    return composed(*request.param, "model.dropout=0")


def built(config: Config, precision: str = "float32") -> keras.Sequential:
    """Returns a model whose batch normalizations are not the identity."""
    model = build_model(config.model, Precision(precision), config.seed)
    random = np.random.default_rng(0)
    for variable in model.variables:
        if "batch_norm" in variable.path:
            variable.assign(random.uniform(0.5, 2, variable.shape))
    return model


def statistics(model: keras.Sequential) -> list[np.ndarray]:
    return [np.array(variable) for variable in model.non_trainable_variables]


def test_it_shares_all_variables_in_their_order(config: Config) -> None:
    model = built(config)
    fast = FastModel(model)
    for kind in ("variables", "weights", "trainable_variables", "non_trainable_variables"):
        own, shared = getattr(model, kind), getattr(fast, kind)
        assert [id(variable) for variable in shared] == [id(variable) for variable in own]


@pytest.mark.parametrize("training", [False, True])
def test_it_returns_the_same_probabilities(config: Config, digits: Arrays, training: bool) -> None:
    model = built(config)
    expected = np.asarray(model(digits[0], training=training))
    actual = np.asarray(FastModel(built(config))(digits[0], training=training))
    assert np.allclose(actual, expected, rtol=1e-4, atol=1e-6)
    assert expected.std() > 1e-4


def test_it_has_the_same_gradients_and_moves_the_same_statistics(
    config: Config, digits: Arrays
) -> None:
    expected, expected_statistics = gradients(model := built(config), model, digits)
    actual, actual_statistics = gradients(FastModel(twin := built(config)), twin, digits)
    for a, b in zip(actual, expected, strict=True):
        # a rounding moves some values across the kinks of pool and activation
        assert np.linalg.norm(a - b) < 5e-3 * np.linalg.norm(b)
    for a, b in zip(actual_statistics, expected_statistics, strict=True):
        assert np.allclose(a, b, rtol=1e-5)
    assert all(
        (a != b).any() for a, b in zip(statistics(built(config)), actual_statistics, strict=True)
    )


def gradients(
    model: keras.Model, notebook_model: keras.Sequential, digits: Arrays
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns the loss' gradients of a step in training, and the moving statistics after it."""
    truth = tf.one_hot(digits[1], 10)
    with tf.GradientTape() as tape:
        loss = keras.losses.categorical_crossentropy(truth, model(digits[0], training=True))
    weights = [weight.value for weight in notebook_model.trainable_weights]
    found = [np.asarray(gradient) for gradient in tape.gradient(loss, weights)]
    return found, statistics(notebook_model)


@pytest.mark.parametrize("n_images", [1, 2, 3])
def test_it_averages_the_biased_variance_of_few_values(
    composed: Composed, digits: Arrays, n_images: int
) -> None:
    """Where the last pool leaves one pixel, a batch normalization sees as many values as images."""
    wide = [f"+model.filters.conv{number}=4" for number in range(5, 11)]
    config = composed(*wide, "model.dropout=0")
    few = digits[0][:n_images]
    model, twin = built(config), built(config)
    model(few, training=True)
    FastModel(twin)(few, training=True)
    for actual, expected in zip(statistics(twin), statistics(model), strict=True):
        assert np.isfinite(actual).all()
        assert np.allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_a_pool_without_an_activation_before_it_is_refused() -> None:
    flat = keras.layers.Flatten()
    layers = [keras.Input((32, 32, 1)), flat, keras.layers.Reshape((32, 32, 1))]
    layers.append(keras.layers.MaxPooling2D(2))
    with pytest.raises(AssertionError, match="follows no activation"):
        FastModel(keras.Sequential(layers))(np.zeros((1, 32, 32, 1), np.float32))


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("training", [False, True])
def test_it_keeps_the_statistics_in_float32_in_mixed_precision(
    composed: Composed, digits: Arrays, precision: str, training: bool
) -> None:
    config = composed("model.dropout=0")
    model, twin = built(config, precision), built(config, precision)
    expected = model(digits[0], training=training)
    actual = FastModel(twin)(digits[0], training=training)
    assert actual.dtype == expected.dtype == tf.float32
    assert np.abs(actual - expected).max() < 0.02
    for a, b in zip(statistics(twin), statistics(model), strict=True):
        assert a.dtype == np.float32
        assert np.allclose(a, b, rtol=1e-2)


@pytest.mark.parametrize("learning_rate", [1e-5, 0.01, 1.0])
def test_fused_adam_moves_variables_as_keras_adam_does(learning_rate: float) -> None:
    random = np.random.default_rng(0)
    shapes = [(3, 3, 1, 16), (16,)]
    gradients = [[random.normal(size=shape).astype(np.float32) for shape in shapes]] * 4
    moved = []
    for adam in (keras.optimizers.Adam, FusedAdam):
        variables = [keras.Variable(np.ones(shape, np.float32)) for shape in shapes]
        optimizer = adam(learning_rate)
        for step, values in enumerate(gradients):
            optimizer.apply([tf.constant(step * value) for value in values], variables)
        moved.append([np.array(variable) for variable in variables + optimizer.variables])
    for actual, expected in zip(moved[1], moved[0], strict=True):
        # 1 - 0.999 is rounded before the operation or in it: 1e-5 of the second moment
        assert np.allclose(actual, expected, rtol=5e-5, atol=1e-7)


def test_a_saved_model_needs_nothing_of_this_package(
    composed: Composed, digits: Arrays, tmp_path: Path
) -> None:
    model = built(composed())
    FastModel(model)(digits[0], training=True)
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        config = archive.read("config.json").decode()
    modules = set(re.findall(r'"module": "(\w+)', config))
    assert modules == {"keras"}
    assert "svhn_sweep" not in config
