import random
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from svhn_sweep.config.schema import Config
from svhn_sweep.training.model import build_model, summary

Composed = Callable[..., Config]


def built(config: Config) -> keras.Sequential:
    return build_model(
        config.model, config.training.augmentation, config.training.precision, config.seed
    )


@pytest.mark.parametrize(
    ("model", "layers", "parameters", "total", "trainable"),
    [
        (
            "model1",
            "Rescaling Conv2D LeakyReLU Conv2D MaxPooling2D "
            "LeakyReLU Flatten Dense LeakyReLU Dense",
            [160, 4640, 262176, 330],
            267306,
            267306,
        ),
        (
            "model2",
            "Rescaling Conv2D LeakyReLU Conv2D MaxPooling2D LeakyReLU BatchNormalization"
            " Conv2D LeakyReLU Conv2D MaxPooling2D LeakyReLU BatchNormalization Flatten "
            "Dense LeakyReLU Dropout Dense",
            [160, 4640, 128, 9248, 18496, 256, 131104, 330],
            164362,
            164170,
        ),
    ],
)
def test_baseline_has_the_notebooks_layers_and_parameters(
    composed: Composed, model: str, layers: str, parameters: list[int], total: int, trainable: int
) -> None:
    network = built(composed(f"model={model}"))
    assert [type(layer).__name__ for layer in network.layers] == layers.split()
    assert [layer.count_params() for layer in network.layers if layer.count_params()] == parameters
    assert network.count_params() == total
    assert sum(int(np.prod(weight.shape)) for weight in network.trainable_weights) == trainable
    assert f"{total:,}" in summary(network)


@pytest.mark.parametrize("model", ["model1", "model2"])
def test_pooling_first_changes_neither_function_nor_gradients(
    composed: Composed, digits: tuple[np.ndarray, np.ndarray], model: str
) -> None:
    network = built(composed(f"model={model}", "model.dropout=0"))
    order = list(network.layers)
    for at in [
        at for at, layer in enumerate(order) if isinstance(layer, keras.layers.MaxPooling2D)
    ]:
        order[at], order[at + 1] = order[at + 1], order[at]
    notebook = keras.Sequential([keras.Input((32, 32, 1)), *order])
    assert np.array_equal(
        network.predict(digits[0], verbose=0), notebook.predict(digits[0], verbose=0)
    )
    for ours, theirs in zip(
        gradients(network, digits[0]), gradients(notebook, digits[0]), strict=True
    ):
        assert np.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def gradients(network: keras.Model, images: np.ndarray) -> list[np.ndarray]:
    """Of the surprise that each digit is a 3, by all weights."""
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(tf.math.log(network(images, training=True)[:, 3]))
    return [
        np.asarray(each)
        for each in tape.gradient(loss, [weight.value for weight in network.trainable_weights])
    ]


def test_convolutions_are_the_notebooks(composed: Composed) -> None:
    network = built(composed())
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            assert (layer.kernel_size, layer.padding) == ((3, 3), "same")
        if isinstance(layer, keras.layers.LeakyReLU):
            assert layer.negative_slope == pytest.approx(0.1)
        if isinstance(layer, keras.layers.Dropout):
            assert layer.rate == 0.5


@pytest.mark.parametrize(
    ("override", "names_gone"),
    [("model.dropout=0", {"dropout"}), ("model.batch_norm=false", {"batch_norm1", "batch_norm2"})],
)
def test_what_is_off_is_no_layer(composed: Composed, override: str, names_gone: set[str]) -> None:
    with_layers = {layer.name for layer in built(composed()).layers}
    without = {layer.name for layer in built(composed(override)).layers}
    assert with_layers - without == names_gone


def test_filters_are_reached_by_name(composed: Composed) -> None:
    network = built(composed("model.filters.conv3=7"))
    assert network.get_layer("conv3").filters == 7


def test_raw_pixels_in_probabilities_out(
    composed: Composed, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    network = built(composed())
    rescaled = keras.Model(network.inputs, network.get_layer("rescale").output)
    assert np.allclose(rescaled.predict(digits[0], verbose=0), digits[0] / 255)
    assert np.allclose(network.predict(digits[0], verbose=0).sum(axis=1), 1, atol=1e-5)


def test_same_seed_same_weights(composed: Composed) -> None:
    first, second, other = (built(composed(f"seed={seed}")).get_weights() for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_initial_weights_do_not_depend_on_the_process_wide_random_state(composed: Composed) -> None:
    random.seed(1)
    first = built(composed()).get_weights()
    random.seed(2)
    second = built(composed()).get_weights()
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_precision_is_the_layers_not_the_process(composed: Composed, precision: str) -> None:
    network = built(composed(f"training.precision=mixed_{precision}"))
    assert keras.config.dtype_policy().name == "float32"
    assert {str(weights.dtype) for weights in network.trainable_variables} == {"float32"}
    computed_in = {layer.name: layer.compute_dtype for layer in network.layers}
    assert computed_in["conv1"] == precision
    assert computed_in["rescale"] == computed_in["digits"] == "float32"


def test_augmentation_shifts_turns_and_zooms_in_training_only(
    composed: Composed, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    network = built(
        composed("training.augmentation.enabled=true", "model.dropout=0", "model.batch_norm=false")
    )
    assert [layer.name for layer in network.layers[1:4]] == [
        "augment_shift",
        "augment_rotation",
        "augment_zoom",
    ]
    assert network.count_params() == 164362 - 128 - 256
    plain, again = network(digits[0], training=False), network(digits[0], training=False)
    assert (np.asarray(plain) == np.asarray(again)).all()
    assert (np.asarray(plain) != np.asarray(network(digits[0], training=True))).any()
