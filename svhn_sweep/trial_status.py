"""How far a trial is, in one vocabulary, with the words of Optuna and MLflow beside it."""

from enum import StrEnum


class TrialStatus(StrEnum):
    """The tag `trial.state` of a run in MLflow, and the attribute `state` of a trial in Optuna."""

    running = "running"
    interrupted = "interrupted"  # continued later, after its last epoch
    complete = "complete"
    pruned = "pruned"
    diverged = "diverged"  # the loss is not finite
    failed = "failed"

    @property
    def is_success(self) -> bool:
        """Whether the trial did what was asked of it: it is complete or was pruned."""
        return self in (TrialStatus.complete, TrialStatus.pruned)

    @property
    def mlflow_status(self) -> str:
        """The status of its run in MLflow; see `mlflow.entities.RunStatus`."""
        return MLFLOW_STATUSES[self]

    @property
    def optuna_state(self) -> str:
        """The name of its state in Optuna; see `optuna.trial.TrialState`."""
        return OPTUNA_STATES[self]


MLFLOW_STATUSES = {
    TrialStatus.running: "RUNNING",
    TrialStatus.interrupted: "KILLED",
    TrialStatus.complete: "FINISHED",
    TrialStatus.pruned: "KILLED",
    TrialStatus.diverged: "FAILED",
    TrialStatus.failed: "FAILED",
}
OPTUNA_STATES = {
    TrialStatus.running: "RUNNING",
    TrialStatus.interrupted: "RUNNING",
    TrialStatus.complete: "COMPLETE",
    TrialStatus.pruned: "PRUNED",
    TrialStatus.diverged: "FAIL",
    TrialStatus.failed: "FAIL",
}
