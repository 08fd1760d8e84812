import random
from collections.abc import Callable

import keras
import numpy as np
import pytest

from svhn_sweep.config.schema import Config
from svhn_sweep.training import model as models
from svhn_sweep.training.model import build_model, seed_noise, summary

Composed = Callable[..., Config]
Arrays = tuple[np.ndarray, np.ndarray]


def built(config: Config) -> keras.Sequential:
    return build_model(config.model, config.training.precision, config.seed)


@pytest.mark.parametrize(
    ("model", "layers", "parameters", "total", "trainable"),
    [
        (
            "model1",
            "Rescaling Conv2D LeakyReLU Conv2D LeakyReLU MaxPooling2D Flatten Dense LeakyReLU "
            "Dense",
            [160, 4640, 262176, 330],
            267306,
            267306,
        ),
        (
            "model2",
            "Rescaling Conv2D LeakyReLU Conv2D LeakyReLU MaxPooling2D BatchNormalization "
            "Conv2D LeakyReLU Conv2D LeakyReLU MaxPooling2D BatchNormalization Flatten "
            "Dense LeakyReLU Dropout Dense",
            [160, 4640, 128, 9248, 18496, 256, 131104, 330],
            164362,
            164170,
        ),
    ],
)
def test_a_baseline_has_the_notebooks_layers_and_parameters(
    composed: Composed, model: str, layers: str, parameters: list[int], total: int, trainable: int
) -> None:
    network = built(composed(f"model={model}"))
    assert [type(layer).__name__ for layer in network.layers] == layers.split()
    assert [layer.count_params() for layer in network.layers if layer.count_params()] == parameters
    assert network.count_params() == total
    assert sum(int(np.prod(weight.shape)) for weight in network.trainable_weights) == trainable
    assert f"{total:,}" in summary(network)


def test_layers_have_the_notebooks_options(composed: Composed) -> None:
    network = built(composed())
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            assert (layer.kernel_size, layer.padding) == ((3, 3), "same")
        if isinstance(layer, keras.layers.LeakyReLU):
            assert layer.negative_slope == pytest.approx(0.1)
        if isinstance(layer, keras.layers.Dropout):
            assert layer.rate == 0.5


@pytest.mark.parametrize(
    ("override", "missing"),
    [("model.dropout=0", {"dropout"}), ("model.batch_norm=false", {"batch_norm1", "batch_norm2"})],
)
def test_what_is_disabled_is_no_layer(composed: Composed, override: str, missing: set[str]) -> None:
    with_layers = {layer.name for layer in built(composed()).layers}
    without = {layer.name for layer in built(composed(override)).layers}
    assert with_layers - without == missing


def test_filters_are_set_by_the_name_of_the_convolution(composed: Composed) -> None:
    network = built(composed("model.filters.conv3=7"))
    assert network.get_layer("conv3").filters == 7


def test_a_model_maps_raw_pixels_to_probabilities(composed: Composed, digits: Arrays) -> None:
    network = built(composed())
    rescaled = keras.Model(network.inputs, network.get_layer("rescale").output)
    assert np.allclose(rescaled.predict(digits[0], verbose=0), digits[0] / 255)
    assert np.allclose(network.predict(digits[0], verbose=0).sum(axis=1), 1, atol=1e-5)


def test_initial_weights_depend_on_the_seed(composed: Composed) -> None:
    first, second, other = (built(composed(f"seed={seed}")).get_weights() for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_initial_weights_do_not_depend_on_pythons_random_state(composed: Composed) -> None:
    random.seed(1)
    first = built(composed()).get_weights()
    random.seed(2)
    second = built(composed()).get_weights()
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_the_precision_is_set_on_the_layers_not_globally(
    composed: Composed, precision: str
) -> None:
    network = built(composed(f"training.precision=mixed_{precision}"))
    assert keras.config.dtype_policy().name == "float32"
    assert {str(weights.dtype) for weights in network.trainable_variables} == {"float32"}
    dtypes = {layer.name: layer.compute_dtype for layer in network.layers}
    assert dtypes["conv1"] == precision
    assert dtypes["rescale"] == dtypes["digits"] == "float32"


def test_noise_depends_on_seed_and_epoch_alone(composed: Composed, digits: Arrays) -> None:
    network = built(composed())

    def state(seed: int, epoch: int) -> list[int]:
        network(digits[0], training=True)  # changes the state
        seed_noise(network, seed, epoch)
        (found,) = [v for v in network.variables if v.name == "seed_generator_state"]
        return [int(number) for number in np.asarray(found)]

    assert state(1, 0) == state(1, 0)
    assert state(1, 0) != state(1, 1)
    assert state(1, 0) != state(2, 0)


def test_a_dropout_whose_state_is_not_found_is_an_error(
    composed: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if Keras had renamed the variable: nothing would be seeded."""
    monkeypatch.setattr(models, "SEED_VARIABLE", "another_name")
    with pytest.raises(RuntimeError, match=r"another_name .* has 0 of them in 1 such"):
        seed_noise(built(composed()), 1, 0)


def test_a_model_without_dropout_needs_no_state(composed: Composed) -> None:
    network = built(composed("model.dropout=0"))
    before = [np.asarray(variable).tolist() for variable in network.variables]
    seed_noise(network, 1, 0)
    assert [np.asarray(variable).tolist() for variable in network.variables] == before
