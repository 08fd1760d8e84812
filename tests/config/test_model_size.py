import math
from collections.abc import Callable

import keras
import pytest

from svhn_sweep.config.model_size import count_multiply_adds, count_parameters
from svhn_sweep.config.schema import Config
from svhn_sweep.training.model import build_model

MODELS = [
    ["model=model1"],
    ["model=model2"],
    ["model=model2", "model.batch_norm=false", "model.dense_units=7"],
    ["model=model1", "+model.filters.conv3=5", "+model.filters.conv4=6"],
]


@pytest.mark.parametrize("overrides", MODELS, ids=" ".join)
def test_the_count_is_that_of_keras(composed: Callable[..., Config], overrides: list[str]) -> None:
    config = composed(*overrides)
    built = build_model(config.model, config.training.precision, config.seed)
    assert count_parameters(config.model) == built.count_params()


@pytest.mark.parametrize("overrides", MODELS, ids=" ".join)
def test_each_weight_of_a_kernel_is_multiplied_once_for_each_place_of_its_output(
    composed: Callable[..., Config], overrides: list[str]
) -> None:
    config = composed(*overrides)
    built = build_model(config.model, config.training.precision, config.seed)
    expected = 0
    for layer in built.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            places = math.prod(layer.output.shape[1:-1])  # none in a dense layer
            expected += places * math.prod(layer.kernel.shape)
    assert count_multiply_adds(config.model) == expected


@pytest.mark.parametrize(("model", "millions"), [("model1", 5.1), ("model2", 12.1)])
def test_multiply_adds_of_the_baselines(
    composed: Callable[..., Config], model: str, millions: float
) -> None:
    count = count_multiply_adds(composed(f"model={model}").model)
    assert round(count / 1e6, 1) == millions
