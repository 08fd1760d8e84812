"""Starts small sweeps and compares Optuna's trials with MLflow's runs."""

import optuna
from folder import Folder
from mlflow.entities import Run

OPTUNA_STATE = {"complete": "COMPLETE", "pruned": "PRUNED", "diverged": "FAIL", "failed": "FAIL"}
MLFLOW_STATUS = {
    "complete": "FINISHED",
    "pruned": "KILLED",
    "diverged": "FAILED",
    "failed": "FAILED",
}


def small(*more: str) -> tuple[str, ...]:
    """A sweep that takes seconds, with the baseline inside the search space.

    It prunes after epoch 4 as longer ones do, so that trials of few epochs are complete.
    """
    fixed = ("model=model1", "model.filters.conv2=2", "model.dropout=0")
    return ("-m", "optuna", *fixed, "hydra.sweeper.pruner.min_resource=4", *more)


def study_names(folder: Folder) -> list[str]:
    return sorted(optuna.get_all_study_names(f"sqlite:///{folder.path}/optuna.db"))


def trials_of(folder: Folder, study: str) -> list[tuple[int, str]]:
    """The number and state of Optuna's trials."""
    trials = optuna.load_study(
        study_name=study, storage=f"sqlite:///{folder.path}/optuna.db"
    ).trials
    return [(trial.number, trial.state.name) for trial in trials]


def runs_of(folder: Folder, study: str) -> dict[int, Run]:
    """MLflow's runs of a study's trials by number; fails if two have the same number."""
    runs = [
        run
        for run in folder.runs()
        if run.data.tags.get("study") == study and "trial.number" in run.data.tags
    ]
    by_number = {int(run.data.tags["trial.number"]): run for run in runs}
    assert len(by_number) == len(runs)
    return by_number


def assert_runs_match_trials(folder: Folder, study: str, budget: int) -> None:
    """Fails unless each trial of the budget has one run with the same state and a whole curve."""
    trials, runs = trials_of(folder, study), runs_of(folder, study)
    assert [number for number, _ in trials] == list(range(budget))
    assert sorted(runs) == list(range(budget))
    for number, state in trials:
        tag = runs[number].data.tags["trial.state"]
        assert (state, runs[number].info.status) == (OPTUNA_STATE[tag], MLFLOW_STATUS[tag])
        steps = [step for step, _ in folder.history(runs[number], "val/accuracy")]
        assert steps == list(range(1, len(steps) + 1))
