from collections.abc import Callable

import pytest

from svhn_sweep.config.model_size import count_parameters
from svhn_sweep.config.schema import Config
from svhn_sweep.training.model import build_model


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=model1"],
        ["model=model2"],
        ["model=model2", "model.batch_norm=false", "model.dense_units=7"],
        ["model=model1", "+model.filters.conv3=5", "+model.filters.conv4=6"],
    ],
    ids=" ".join,
)
def test_the_count_is_that_of_keras(composed: Callable[..., Config], overrides: list[str]) -> None:
    config = composed(*overrides)
    built = build_model(config.model, config.training.precision, config.seed)
    assert count_parameters(config.model) == built.count_params()
