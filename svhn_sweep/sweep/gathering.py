"""What other hosts trained: brought here from MLflow, and settled there."""

import time

from optuna.trial import FrozenTrial, TrialState

from svhn_sweep.errors import SweepError
from svhn_sweep.sweep.record import record
from svhn_sweep.sweep.study import Assignment, Study
from svhn_sweep.tracking import store
from svhn_sweep.tracking.journal import JOURNAL
from svhn_sweep.tracking.live import Live
from svhn_sweep.trial import experiment_name

STATUS = {"complete": "FINISHED", "pruned": "KILLED", "diverged": "FAILED", "failed": "FAILED"}  # in MLflow
PATIENCE_SECONDS = 120.0  # the host that trained it may still be sending, which waits a minute for MLflow itself


def gather(study: Study, confirming: Study | None) -> None:
    """Bring the matrices and models of the best trial, the baseline and the confirmation, where they are not here.

    Raises:
        SweepError: MLflow does not have one of them.
    """
    for trial in (study.best(), study.baseline()):
        if trial is not None:
            _bring(study, trial)
    for trial in confirming.trials() if confirming is not None else []:
        if confirming is not None and trial.state == TrialState.COMPLETE:
            _bring(confirming, trial)


def settle(study: Study, live: Live) -> None:
    """Have MLflow told of finished trials whose hosts were lost before they could."""
    from svhn_sweep.tracking import fetching  # imports mlflow

    experiment = experiment_name(study.plan.config)
    finished = {trial.number: trial for trial in study.finished() if not study.ownership.has(trial)}
    left, since = finished.keys() - fetching.ended(experiment, study.plan.name), time.monotonic()
    patience = min(PATIENCE_SECONDS, study.settings.takeover_after)  # a slow host is not a lost one
    while left and time.monotonic() - since < patience:
        time.sleep(1)
        still = left - fetching.ended(experiment, study.plan.name)
        left, since = still, (since if still == left else time.monotonic())
    for number in left:
        folder = study.folder(number)
        if not (folder / JOURNAL).exists():
            _write_down(study, finished[number])
        live.follow(folder)


def _write_down(study: Study, trial: FrozenTrial) -> None:
    """Make a journal of what the study knows of a trial."""
    state = str(trial.user_attrs["state"])
    with record(study, Assignment(trial.number, trial.params, 0)) as opened:
        opened.tags({"data.sha256": study.plan.data_sha256})
        reason = "its host was lost before it had told MLflow all of it; this is what the study knows"
        opened.supersede({"study": study.plan.name, "trial.number": trial.number}, reason)
        opened.params(dict(trial.params))
        for epoch, value in sorted(trial.intermediate_values.items()):
            opened.metrics({study.settings.metric: value}, step=epoch)
        if "best_accuracy" in trial.user_attrs:
            opened.metrics({"val/best_accuracy": trial.user_attrs["best_accuracy"]})
        opened.end(STATUS[state], {"trial.state": state, "trial.reason": reason})


def _bring(study: Study, trial: FrozenTrial) -> None:
    from svhn_sweep.tracking.fetching import fetch_run  # imports mlflow

    number, folder = trial.number, study.folder(trial.number)
    if study.sees(trial.user_attrs["owner"]):
        return
    tags = {"study": study.plan.name, "trial.number": str(number), "trial.state": "complete"}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            if fetch_run(experiment_name(study.plan.config), tags, folder):
                return
            reason = "it is not there"
        except Exception as error:  # noqa: BLE001  # the server may be about to come back
            reason = store.reason(error)
        if time.monotonic() > deadline:
            raise SweepError(
                f"trial {number} of {study.plan.name}, which another host trained, could not be fetched from MLflow at "
                f"{store.address()}: {reason}; the same command tries again."
            )
        time.sleep(1)
