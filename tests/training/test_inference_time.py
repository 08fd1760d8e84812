from collections.abc import Callable

import pytest

from svhn_sweep.config.schema import Config
from svhn_sweep.training import inference_time
from svhn_sweep.training.inference_time import MAX_PASSES, MIN_PASSES, inference_seconds
from svhn_sweep.training.model import build_model


@pytest.mark.parametrize(("enough", "passes"), [(100.0, MAX_PASSES), (0.0, MIN_PASSES)])
def test_a_slow_model_is_timed_less_often(
    composed: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, enough: float, passes: int
) -> None:
    config = composed("model=model1", "model.filters.conv1=1", "model.filters.conv2=1")
    monkeypatch.setattr(inference_time, "MIN_TOTAL_SECONDS", enough)
    seconds = inference_seconds(build_model(config.model, config.training.precision, config.seed))
    assert len(seconds) == passes
    assert min(seconds) > 0
