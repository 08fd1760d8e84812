"""What a worker does with a request: here the config that it composes."""

from pathlib import Path

import pytest

from svhn_sweep.config.schema import Config
from svhn_sweep.data.splits import Splits
from svhn_sweep.errors import DataError
from svhn_sweep.sweep.workers.protocol import NodeFault, TrainRequest
from svhn_sweep.sweep.workers.tasks import train_trial
from svhn_sweep.tracking.run_info import RunInfo

EXPERIMENT = """# @package _global_
defaults:
  - override /hydra/sweeper: optuna
  - override /model: model1
hydra:
  mode: MULTIRUN
  sweeper:
    n_trials: 2
    params: {model.dropout: "interval(0,0.5)"}
training:
  epochs: 3
"""


@pytest.mark.parametrize("name", ["experiment", "my experiment", "it's=é"])
def test_a_trial_composes_without_the_hydra_settings_of_a_file(tmp_path: Path, name: str) -> None:
    own = tmp_path / name / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text(EXPERIMENT)
    composed: list[Config] = []

    def load_digits(config: Config) -> Splits:
        composed.append(config)
        raise DataError("no digits")

    request = TrainRequest(
        ("+experiment=mine", "hydra.mode=RUN", "model.dropout=0.25"),
        (str(own.parent),),
        tmp_path / "trial",
        RunInfo("trial", "svhn", "", {}),
        "sha256",
    )
    fault = train_trial(request, request.folder, load_digits, lambda epoch, metrics: False)
    assert fault == NodeFault("no digits")
    (config,) = composed
    assert (config.model.name, config.training.epochs) == ("model1", 3)
    assert config.model.dropout == 0.25
