"""What a worker answers if a trial cannot be trained, and whose fault that is."""

import errno
import os
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from omegaconf import OmegaConf

from svhn_sweep import trial
from svhn_sweep.config.schema import Config
from svhn_sweep.data.splits import Splits
from svhn_sweep.errors import DataError
from svhn_sweep.sweep.workers.protocol import NodeFault, OutOfMemory, TrainRequest, TrialEnded
from svhn_sweep.sweep.workers.tasks import train_trial
from svhn_sweep.tracking.journal import end_tags
from svhn_sweep.tracking.run_info import RunInfo
from svhn_sweep.trial_status import TrialStatus

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
AWAY = DataError("digits.h5 does not exist.")


def request(folder: Path, *overrides: str, config_dirs: tuple[str, ...] = ()) -> TrainRequest:
    run_info = RunInfo("trial 1", "svhn", "sqlite:///x", {})
    return TrainRequest(("data=synthetic", *overrides), config_dirs, folder, run_info, "digits")


def digits(config: Config) -> Splits:
    images = np.zeros((20, 32, 32, 1), np.float32)
    labels = np.arange(20, dtype=np.uint8) % 10
    return Splits(images, labels, None, None, "synthetic", Path("digits.h5"), "digits")


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> NoReturn:
        raise error

    monkeypatch.setattr(trial, "_train_and_evaluate", fail)


def never_stop(epoch: int, metrics: dict[str, float]) -> bool:
    return False


@pytest.mark.parametrize(
    ("error", "event", "state"),
    [
        (FULL, NodeFault("OSError: [Errno 28] No space left on device"), "interrupted"),
        (AWAY, NodeFault("digits.h5 does not exist."), "interrupted"),
        (
            RuntimeError("no luck"),
            TrialEnded(TrialStatus.failed, "RuntimeError: no luck"),
            "failed",
        ),
    ],
)
def test_faults_of_the_machine_interrupt_a_trial_that_has_begun(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    event: NodeFault | TrialEnded,
    state: str,
) -> None:
    fail_with(error, monkeypatch)
    assert train_trial(request(tmp_path), tmp_path, digits, never_stop) == event
    assert (end_tags(tmp_path) or {})["trial.state"] == state


def test_too_little_memory_is_told_to_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(MemoryError(), monkeypatch)
    event = train_trial(request(tmp_path), tmp_path, digits, never_stop)
    assert isinstance(event, OutOfMemory)


@pytest.mark.parametrize("error", [FULL, AWAY])
def test_digits_that_cannot_be_read_are_no_fault_of_the_trial(
    tmp_path: Path, error: Exception
) -> None:
    def load(config: Config) -> Splits:
        raise error

    event = train_trial(request(tmp_path), tmp_path, load, never_stop)
    assert isinstance(event, NodeFault)
    assert str(error) in event.reason
    assert not list(tmp_path.iterdir())


def test_a_config_file_that_has_changed_is_no_fault_of_the_trial(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "model").mkdir(parents=True)
    OmegaConf.save({"defaults": ["model1"], "filterz": 1}, own / "model" / "wide.yaml")
    folder = tmp_path / "trial"
    wide = ("model=wide", "training=model1", "search_space/filters=model1")
    event = train_trial(request(folder, *wide, config_dirs=(str(own),)), folder, digits, never_stop)
    assert isinstance(event, NodeFault)
    assert event.reason.startswith("the trial's config cannot be composed: ")
    assert "filterz" in event.reason
    assert not folder.exists()


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

    pending = TrainRequest(
        ("+experiment=mine", "hydra.mode=RUN", "model.dropout=0.25"),
        (str(own.parent),),
        tmp_path / "trial",
        RunInfo("trial", "svhn", "", {}),
        "sha256",
    )
    fault = train_trial(pending, pending.folder, load_digits, never_stop)
    assert fault == NodeFault("no digits")
    (config,) = composed
    assert (config.model.name, config.training.epochs) == ("model1", 3)
    assert config.model.dropout == 0.25
