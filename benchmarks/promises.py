"""What must hold when a sweep is through, however often it was killed; what does not is told in
words.
"""

import json
import logging
import shlex
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote, urlparse

import optuna
from hydra import initialize_config_dir
from mlflow import MlflowClient
from mlflow.entities import Metric, Run, ViewType
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial, TrialState

from svhn_sweep import data
from svhn_sweep.config.schema import compose_config, conf_dir, register_schema
from svhn_sweep.tracking import journal
from svhn_sweep.tracking.run_info import RunInfo
from svhn_sweep.trial import run_trial

PER_EPOCH = (
    "train/loss",
    "train/accuracy",
    "val/loss",
    "val/accuracy",
    "learning_rate",
    "epoch_seconds",
)
REPEATABLE = PER_EPOCH[:-1]
FINALS = (
    "val/best_accuracy",
    "val/best_epoch",
    "val/final_accuracy",
    "val/lowest_loss",
    "val/macro_f1",
    "val/calibration_error",
    *(f"val/recall_{digit}" for digit in range(10)),
)
TIMES = {"seconds_per_1000_images", "seconds_per_1000_images_spread"}  # on the Pareto front only
OF_A_STUDY = ("sweep", "ensemble")  # the roles of runs that are no training
STATES = {
    TrialState.COMPLETE: {("FINISHED", "complete")},
    TrialState.PRUNED: {("KILLED", "pruned")},
    TrialState.FAIL: {("FAILED", "failed"), ("FAILED", "diverged")},
}
MODEL = "svhn-digits-synthetic"

History = dict[int, dict[str, float]]


@dataclass
class Result:
    """What a sweep left behind in its folder."""

    folder: Path
    epochs: int
    n_trials: int
    seeds: int | None
    models: int
    broken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = MlflowClient(f"sqlite:///{self.folder}/mlflow.db")
        self.storage = optuna.storages.RDBStorage(f"sqlite:///{self.folder}/optuna.db")
        self.studies = {
            name: optuna.load_study(study_name=name, storage=self.storage)
            for name in optuna.study.get_all_study_names(self.storage)
        }
        experiments = [each.experiment_id for each in self.client.search_experiments(ViewType.ALL)]
        self.runs: list[Run] = list(
            self.client.search_runs(experiments, run_view_type=ViewType.ALL)
        )

    def check(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.broken.append(otherwise)

    def history(self, run: Run, key: str) -> list[Metric]:
        return sorted(
            self.client.get_metric_history(run.info.run_id, key), key=lambda metric: metric.step
        )

    def trial_folder(self, study: str, number: int) -> Path:
        search, confirming, _ = study.partition("-confirm")
        folder = self.folder / "multirun" / search
        return (folder / "confirm" if confirming else folder) / f"trial-{number:04d}"


def broken(result: Result, known: dict[str, History]) -> list[str]:
    """All promises; `known`: histories of uninterrupted trials by command, to which this adds."""
    result.broken = []
    parents = _studies(result)
    _rows(result, parents)
    for run in result.runs:
        _artifacts(result, run)
    _models(result)
    _left_files(result)
    for path in sorted((result.folder / "multirun").rglob(journal.JOURNAL)):
        if interrupted(path.parent):
            _as_if_uninterrupted(result, path.parent, known)
    return result.broken


def _studies(result: Result) -> dict[str, Run]:
    """The budget of each study, and its own run; returns those runs by study."""
    searches = [name for name in result.studies if "-confirm" not in name]
    result.check(len(searches) == result.models, f"studies {searches}, but {result.models} models")
    parents: dict[str, Run] = {}
    for name, study in result.studies.items():
        confirming = "-confirm" in name
        budget = 2 * (result.seeds or 0) if confirming else result.n_trials
        states = Counter(trial.state.name for trial in study.get_trials(deepcopy=False))
        finished = sum(states[state.name] for state in STATES)
        result.check(
            finished == states.total() == budget,
            f"{name}: {dict(states)}, but the budget is {budget}",
        )
        if confirming:
            result.check(states["COMPLETE"] == budget, f"{name}: {dict(states)}, not all complete")
            continue
        own = [
            run
            for run in result.runs
            if (run.data.tags["role"], run.data.tags["study"]) == ("sweep", name)
        ]
        result.check(len(own) == 1, f"{name}: {len(own)} runs of its own")
        for run in own:
            parents[name] = run
            ended = run.info.status, run.data.tags["trial.state"]
            result.check(ended == ("FINISHED", "complete"), f"{name}: its own run is {ended}")
        confirmations = [other for other in result.studies if other == f"{name}-confirm"]
        best = study.best_value
        first = study.get_trials(deepcopy=False)[0]
        beaten = (
            first.state == TrialState.COMPLETE and first.value is not None and best > first.value
        )
        wanted = int(result.seeds is not None and beaten)
        result.check(
            len(confirmations) == wanted,
            f"{name}: confirmed in {confirmations}, should be {wanted}",
        )
    return parents


def _rows(result: Result, parents: dict[str, Run]) -> None:
    """Optuna and MLflow, joined by study and number."""
    runs: dict[tuple[str, int], list[Run]] = {}
    for run in result.runs:
        result.check(run.info.lifecycle_stage == "active", f"{run.info.run_name} is deleted")
        if run.data.tags["role"] not in OF_A_STUDY:
            key = run.data.tags["study"], int(run.data.tags["trial.number"])
            runs.setdefault(key, []).append(run)
    trials = {
        (name, trial.number): trial
        for name, study in result.studies.items()
        for trial in study.get_trials(False)
    }
    for key in sorted(trials.keys() | runs.keys()):
        found = runs.get(key, [])
        result.check(key in trials, f"{key}: in MLflow alone")
        result.check(len(found) == 1, f"{key}: {len(found)} runs in MLflow")
        if key in trials and len(found) == 1:
            _row(result, key, trials[key], found[0], parents)


def _row(
    result: Result, key: tuple[str, int], trial: FrozenTrial, run: Run, parents: dict[str, Run]
) -> None:
    name = key[0]
    role = "confirmation" if "-confirm" in name else "trial" if trial.number else "baseline"
    ended = run.info.status, run.data.tags["trial.state"]
    result.check(run.data.tags["role"] == role, f"{key}: its role is {run.data.tags['role']}")
    result.check(
        ended in STATES[trial.state], f"{key}: {trial.state.name} in Optuna, {ended} in MLflow"
    )
    result.check(run.info.end_time is not None, f"{key}: no end")
    parent = parents.get(name.partition("-confirm")[0])
    inside = run.data.tags.get("mlflow.parentRunId")
    result.check(
        parent is not None and inside == parent.info.run_id, f"{key}: its parent is {inside}"
    )
    for param, value in trial.params.items():
        told = run.data.params.get("seed" if param == "seed" else param)
        same = told is not None and (
            told == str(value) or abs(float(told) - value) <= 1e-9 * abs(value)
        )
        result.check(
            param == "trial" or same, f"{key}: {param} is {value} in Optuna, {told} in MLflow"
        )
    _numbers(result, key, trial, run)
    _journal(result, key, run)


def _numbers(result: Result, key: tuple[str, int], trial: FrozenTrial, run: Run) -> None:
    """Each epoch once, without a gap; finals once; Optuna has the same."""
    epochs = len(trial.intermediate_values)
    complete = trial.state == TrialState.COMPLETE
    diverged = run.data.tags["trial.state"] == "diverged"
    enough = epochs == result.epochs if complete else diverged or 1 <= epochs <= result.epochs
    result.check(enough, f"{key}: {epochs} epochs in Optuna")
    steps = list(range(1, epochs + 1))
    result.check(
        sorted(trial.intermediate_values) == steps, f"{key}: {trial.intermediate_values} in Optuna"
    )
    for metric in PER_EPOCH:
        history = result.history(run, metric)
        result.check(
            [each.step for each in history] == steps,
            f"{key}: {metric} {[each.step for each in history]}",
        )
        if metric == "val/accuracy":
            values = {each.step: each.value for each in history}
            result.check(
                values == trial.intermediate_values,
                f"{key}: {values} but {trial.intermediate_values}",
            )
            best = max(values.values(), default=None)
            result.check(not complete or best == trial.value, f"{key}: {best} but {trial.value}")
    finals = run.data.metrics.keys() - set(PER_EPOCH) - TIMES
    expected = set() if diverged else set(FINALS)
    baseline = result.studies[key[0]].get_trials(deepcopy=False)[0].state == TrialState.COMPLETE
    if complete and baseline and "-confirm" not in key[0]:
        expected.add("delta_to_baseline")
    result.check(finals == expected, f"{key}: finals {sorted(finals)}")
    for metric in finals:
        times = len(result.history(run, metric))
        result.check(times == 1, f"{key}: {metric} {times} times")


def _journal(result: Result, key: tuple[str, int], run: Run) -> None:
    """The folder says what MLflow says, once."""
    folder = result.trial_folder(*key)
    events = [event for event, _ in journal.read(folder)]
    starts = [event["key"] for event in events if event["kind"] == "start"]
    result.check(starts == [run.data.tags["journal.key"]], f"{key}: starts {starts}")
    metrics = [event for event in events if event["kind"] == "metrics"]
    written = Counter((name, event["step"]) for event in metrics for name in event["values"])
    twice = [each for each, times in written.items() if times > 1]
    result.check(not twice, f"{key}: twice in the journal: {twice}")
    ended = journal.end_tags(folder)
    result.check(
        ended is not None and ended["trial.state"] == run.data.tags["trial.state"],
        f"{key}: ended {ended}",
    )


def _artifacts(result: Result, run: Run) -> None:
    """Every file that the journal names is in MLflow, byte by byte."""
    tags = run.data.tags
    if tags["role"] == "ensemble":  # its folder is named after its members
        return
    folder = result.trial_folder(tags["study"], int(tags.get("trial.number", 0)))
    folder = folder.parent if tags["role"] == "sweep" else folder
    store = Path(unquote(urlparse(run.info.artifact_uri).path))
    for path in {event["path"] for event, _ in journal.read(folder) if event["kind"] == "artifact"}:
        there = store / path
        same = there.exists() and there.read_bytes() == (folder / path).read_bytes()
        result.check(
            same, f"{folder.name}/{path}: {'another' if there.exists() else 'not'} in MLflow"
        )


def _models(result: Result) -> None:
    """One logged model for each run that has one, and one registered champion."""
    experiments = sorted({run.info.experiment_id for run in result.runs})
    logged = Counter(
        model.source_run_id for model in result.client.search_logged_models(experiments)
    )
    for run in result.runs:
        if run.data.tags["role"] in OF_A_STUDY:
            continue
        key = run.data.tags["study"], int(run.data.tags["trial.number"])
        wanted = int((result.trial_folder(*key) / "model").exists())
        result.check(logged[run.info.run_id] == wanted, f"{key}: {logged[run.info.run_id]} models")
        wanted_anyway = run.data.tags["role"] == "confirmation"
        result.check(bool(wanted) or not wanted_anyway, f"{key}: no model")
    if result.seeds is None:
        return
    versions = result.client.search_model_versions(f"name='{MODEL}'")
    result.check(len(versions) == 1, f"{len(versions)} versions of {MODEL}")
    try:
        result.client.get_model_version_by_alias(MODEL, "champion")
    except MlflowException as error:
        result.check(False, f"no champion: {error}")


def _left_files(result: Result) -> None:
    """Nothing that was only needed on the way."""
    left = [*result.folder.rglob("*checkpoint*"), *result.folder.rglob("*.unfinished")]
    result.check(not left, f"left over: {[str(path.relative_to(result.folder)) for path in left]}")


def interrupted(folder: Path) -> bool:
    """Whether a trial was begun more than once."""
    events = [event for event, _ in journal.read(folder)]
    described = [event for event in events if event.get("path") == "config.yaml"]
    return len(described) > 1 or any(event["kind"] == "resume" for event in events)


def _as_if_uninterrupted(result: Result, folder: Path, known: dict[str, History]) -> None:
    """Every epoch and every final equals that of the same command, trained in one go."""
    command = folder / "command.txt"
    if not command.exists():
        return  # a study's own run, or a trial whose worker never came so far
    text = command.read_text()
    if " -m optuna " in text:
        return
    if text not in known:
        known[text] = uninterrupted(shlex.split(text)[3:])
    mine = journal.history(folder)
    complete = (journal.end_tags(folder) or {})["trial.state"] == "complete"
    for step, metrics in mine.items():
        keys = REPEATABLE if step else FINALS if complete else ()
        for key in keys:
            other = known[text].get(step, {}).get(key)
            result.check(
                metrics.get(key) == other,
                f"{folder.parent.name}/{folder.name} epoch {step}: {key} is "
                f"{metrics.get(key)}, in one go {other}",
            )


def uninterrupted(overrides: list[str]) -> History:
    """The numbers of a trial that was trained in one go."""
    register_schema()
    logging.getLogger("tensorflow").setLevel(
        logging.ERROR
    )  # it warns of many models in one process
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose_config([*overrides, "tracking.log_model=false"])
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        run_trial(
            config,
            data.load(config.data, test=False),
            Path(folder),
            "",
            RunInfo("in one go", "in one go", "", {}),
        )
        return journal.history(Path(folder))


def processes(mark: str) -> Iterator[tuple[int, list[str]]]:
    """The processes, each with its command, whose environment holds the mark."""
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                if mark.encode() in (path / "environ").read_bytes().split(b"\0"):
                    yield int(path.name), (path / "cmdline").read_text().split("\0")[:-1]
            except OSError:
                continue  # it has ended, or is another user's


def told(path: Path) -> list[dict[str, Any]]:
    """The kills that happened, in order."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
