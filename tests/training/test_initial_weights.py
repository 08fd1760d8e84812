"""Weights of a saved model: what is taken over, what is refused, and what is kept as it is."""

import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from svhn_sweep.config.schema import Config, Precision
from svhn_sweep.errors import ConfigError, DataError
from svhn_sweep.files import file_digest
from svhn_sweep.training.fast_model import FastModel
from svhn_sweep.training.fit import fit
from svhn_sweep.training.initial_weights import InitialWeights, freeze, take_over
from svhn_sweep.training.model import build_model

Composed = Callable[..., Config]
Arrays = tuple[np.ndarray, np.ndarray]
SMALL = (
    *(f"model.filters.conv{number}=2" for number in (1, 2, 3, 4)),
    "model.dense_units=4",
    "training.epochs=2",
    "training.batch_size=16",
)
LAYERS = ["conv1", "conv2", "batch_norm1", "conv3", "conv4", "batch_norm2", "dense", "digits"]


def built(config: Config, seed: int = 1) -> keras.Sequential:
    """Returns a model whose batch normalizations are not the identity."""
    model = build_model(config.model, Precision.float32, seed)
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if "batch_norm" in variable.path:
            variable.assign(random.uniform(0.5, 2, variable.shape))
    return model


def saved(model: keras.Model, path: Path) -> InitialWeights:
    model.save(path)
    return InitialWeights(str(path), path, file_digest(path))


def weights(model: keras.Model) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def equal_layers(one: keras.Model, other: keras.Model) -> list[str]:
    pairs = weights(other)
    return [
        name
        for name, arrays in weights(one).items()
        if all(map(np.array_equal, arrays, pairs[name]))
    ]


def test_all_weights_are_taken_over(composed: Composed, tmp_path: Path) -> None:
    config = composed(*SMALL)
    source, model = built(config), built(config, seed=2)
    assert not equal_layers(source, model)
    take_over(model, saved(source, tmp_path / "it's a.keras"), config.model)
    assert equal_layers(source, model) == LAYERS


def test_layers_are_paired_in_their_order_whatever_their_names(
    composed: Composed, tmp_path: Path
) -> None:
    """As those of the notebook's own model, whose head here has other labels."""
    config = composed("model=model1", "model.filters.conv1=2", "model.filters.conv2=3")
    layers = keras.layers
    source = keras.Sequential(
        [
            keras.Input((32, 32, 1)),
            layers.Conv2D(2, 3, padding="same"),
            layers.Conv2D(3, 3, padding="same"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(32),
            layers.Dense(26, activation="softmax"),
        ]
    )
    source.compile("adam", "categorical_crossentropy")
    model = built(config)
    head = model.get_layer("digits").get_weights()
    take_over(model, saved(source, tmp_path / "letters.keras"), config.model)
    taken = [array for layer in source.layers[:-1] for array in layer.get_weights()]
    assert all(map(np.array_equal, model.get_weights()[:-2], taken))
    assert all(map(np.array_equal, model.get_layer("digits").get_weights(), head))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model.filters.conv2=5"],
            "must fit model2 but the layer conv2 of FILE is [3, 3, 2, 2] where the model's is "
            "[3, 3, 2, 5]; model.filters.conv2=2 fits.",
        ),
        (
            ["model.dense_units=8"],
            "the layer dense of FILE is [128, 4] where the model's is [128, 8]; "
            "model.dense_units=4 fits.",
        ),
        (
            ["model.batch_norm=false"],
            "the layer batch_norm1 of FILE is [2] where the model's conv3 is [3, 3, 2, 2].",
        ),
        (
            ["+model.filters.conv5=2", "+model.filters.conv6=2"],
            "the layer dense of FILE is [128, 4] where the model's conv5 is [3, 3, 2, 2].",
        ),
    ],
)
def test_a_layer_that_does_not_fit_is_named_with_both_shapes(
    composed: Composed, tmp_path: Path, overrides: list[str], message: str
) -> None:
    file = tmp_path / "source.keras"
    source = saved(built(composed(*SMALL)), file)
    config = composed(*SMALL, *overrides)
    model = built(config)
    with pytest.raises(ConfigError) as error:
        take_over(model, source, config.model)
    assert message.replace("FILE", str(file)) in str(error.value)
    assert equal_layers(model, built(config)) == list(weights(model))


@pytest.mark.parametrize("damage", ["empty", "cut", "no model"])
def test_a_file_that_is_no_saved_model_is_refused(
    composed: Composed, tmp_path: Path, damage: str
) -> None:
    config = composed(*SMALL)
    file = tmp_path / "damaged.keras"
    saved(built(config), file)
    match damage:
        case "empty":
            file.write_bytes(b"")
        case "cut":
            file.write_bytes(file.read_bytes()[:-100])
        case "no model":
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("config.json", '"nothing"')
    with pytest.raises(DataError, match=r"must be a model that Keras 3 saved.* but cannot be read"):
        take_over(built(config), InitialWeights(str(file), file, file_digest(file)), config.model)


def test_a_file_that_has_changed_is_refused(composed: Composed, tmp_path: Path) -> None:
    config = composed(*SMALL)
    source = saved(built(config), tmp_path / "a.keras")
    saved(built(config, seed=2), tmp_path / "b.keras")
    shutil.copy(tmp_path / "b.keras", tmp_path / "a.keras")
    with pytest.raises(DataError, match="must not change while it is used"):
        take_over(built(config), source, config.model)


@pytest.mark.parametrize(
    ("count", "frozen", "ema_momentum"),
    [
        (0, [], 0.9),
        (1, ["conv1"], 0.0),
        (2, ["conv1", "conv2", "batch_norm1"], 0.9),
        (3, ["conv1", "conv2", "batch_norm1", "conv3"], 0.0),
        (4, LAYERS[:6], 0.9),
    ],
)
def test_frozen_layers_and_their_statistics_stay_and_all_others_move(
    composed: Composed, digits: Arrays, count: int, frozen: list[str], ema_momentum: float
) -> None:
    config = composed(*SMALL)
    model = built(config)
    freeze(model, count)
    training = replace(config.training, ema_momentum=ema_momentum, weight_decay=0.01)
    fit(model, digits, digits, training, seed=1)
    assert equal_layers(model, built(config)) == frozen


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_fast_model_trains_what_keras_trains(
    composed: Composed, digits: Arrays, count: int
) -> None:
    """In training, a frozen batch normalization of both uses its statistics (keras#9965)."""
    config = composed(*SMALL, "model.dropout=0")
    found = []
    for wrap in (lambda model: model, FastModel):
        model = built(config)
        freeze(model, count)
        trained = wrap(model)
        with tf.GradientTape() as tape:
            probabilities = trained(digits[0], training=True)
            loss = keras.losses.categorical_crossentropy(tf.one_hot(digits[1], 10), probabilities)
        values = [variable.value for variable in trained.trainable_variables]
        gradients = [np.asarray(gradient) for gradient in tape.gradient(loss, values)]
        found.append((np.asarray(probabilities), gradients, weights(model)))
    (expected, expected_gradients, moved), (actual, gradients, fast_moved) = found
    assert np.allclose(actual, expected, rtol=1e-4, atol=1e-6)
    for a, b in zip(gradients, expected_gradients, strict=True):
        assert np.linalg.norm(a - b) <= 5e-3 * np.linalg.norm(b)
    for name, arrays in moved.items():
        assert all(
            np.allclose(a, b, rtol=1e-5) for a, b in zip(arrays, fast_moved[name], strict=True)
        )


def test_a_resumed_fit_equals_an_uninterrupted_one(
    composed: Composed, digits: Arrays, tmp_path: Path
) -> None:
    config = composed(*SMALL)
    source = saved(built(config, seed=3), tmp_path / "source.keras")

    def fitted(epochs: int, path: Path | None) -> keras.Model:
        model = built(config)
        take_over(model, source, config.model)
        freeze(model, 2)
        fit(
            model,
            digits,
            digits,
            config.training,
            seed=1,
            checkpoint_path=path,
            should_stop=lambda epoch, metrics: epoch == epochs,
        )
        return model

    whole = fitted(2, None)
    fitted(1, tmp_path / "checkpoint.npz")
    resumed = fitted(2, tmp_path / "checkpoint.npz")
    assert equal_layers(whole, resumed) == LAYERS
