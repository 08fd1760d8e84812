"""Sweeps on a real Ray cluster: starts them, waits for them and checks their results."""

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
from folder import PRETEND, Folder
from optuna.trial import FrozenTrial, TrialState
from ray_nodes import RayNodes

from svhn_sweep.tracking import journal

EPOCHS = 4
DRY_RUN = "hydra.sweeper.dry_run=true"
PRETENDING = {
    "PYTHONPATH": os.pathsep.join([str(PRETEND), str(PRETEND.parents[1])]),
    "PRETEND_SECONDS": "0.5",
}


class Cluster:
    """A cluster and the folder in which sweeps on it are started."""

    def __init__(self, nodes: RayNodes, folder: Folder, digits: Path) -> None:
        self.nodes = nodes
        self.folder = folder
        self.digits = digits
        folder.environment = nodes.environment

    def sweep(self, *more: str, n_trials: int = 4, epochs: int = EPOCHS) -> tuple[str, ...]:
        """Returns the arguments of a sweep on the cluster."""
        small = (
            "model=model1",
            "model.filters.conv1=2",
            "model.filters.conv2=2",
            f"training.epochs={epochs}",
        )
        plain = (
            "hydra.sweeper.confirm=null",
            "hydra.sweeper.pruner.name=none",
            "hydra.sweeper.study_name=study",
        )
        budget = (
            f"hydra.sweeper.cluster={self.nodes.address}",
            f"hydra.sweeper.n_trials={n_trials}",
        )
        return (
            "-m",
            "optuna",
            "data=svhn",
            f"data.path={self.digits}",
            *small,
            *plain,
            *budget,
            *more,
        )

    def start(self, *more: str, n_trials: int = 4, epochs: int = EPOCHS) -> "subprocess.Popen[str]":
        return self.folder.start(*self.sweep(*more, n_trials=n_trials, epochs=epochs))

    def trial_folder(self, number: int) -> Path:
        return self.folder.path / "multirun" / "study" / f"trial-{number:04d}"

    def epochs_of(self, number: int) -> int:
        return max(journal.history(self.trial_folder(number)), default=0)


def finish(process: "subprocess.Popen[str]", seconds: float = 240) -> str:
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, out + err
    assert err == ""
    return out


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    for _ in range(int(seconds * 10)):
        if condition():
            return
        time.sleep(0.1)
    raise TimeoutError


def trials(folder: Folder) -> list[FrozenTrial]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder.path}/optuna.db")
    try:
        return list(optuna.load_study(study_name="study", storage=storage).trials)
    finally:
        storage.engine.dispose()


def assert_whole(cluster: Cluster, n_trials: int, epochs: int = EPOCHS) -> None:
    """Asserts that Optuna and MLflow hold each trial of the budget once, with every epoch."""
    all_trials = trials(cluster.folder)
    assert Counter(trial.state for trial in all_trials) == {TrialState.COMPLETE: n_trials}
    runs = cluster.folder.runs()
    (parent,) = [run for run in runs if run.data.tags["role"] == "sweep"]
    children = {int(run.data.tags["trial.number"]): run for run in runs if run is not parent}
    assert len(runs) == n_trials + 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    for trial in all_trials:
        assert sorted(trial.intermediate_values) == list(range(1, epochs + 1))
        steps = [step for step, _ in cluster.folder.history(children[trial.number], "val/accuracy")]
        assert steps == list(range(1, epochs + 1))


def tags_of(cluster: Cluster) -> list[dict[str, str]]:
    return [run.data.tags for run in cluster.folder.runs() if run.data.tags["role"] != "sweep"]


def wait_for_nodes(cluster: Cluster, count: int) -> None:
    started = "Ray runtime started"
    logs = cluster.nodes.folder
    names = [node.name for node in cluster.nodes.nodes if node.name != "head"]
    assert len(names) == count
    wait_until(lambda: all(started in (logs / f"{name}.log").read_text() for name in names))
