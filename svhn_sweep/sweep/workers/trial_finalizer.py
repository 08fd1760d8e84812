"""Tells Optuna and the callbacks how trials end; the driver's side of a trial's end.

The worker's side, which normally writes the end to the journal first, is svhn_sweep/trial_end.py.
"""

from collections.abc import Callable
from pathlib import Path

from svhn_sweep.errors import SweepError
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.study.study import PendingTrial, Study
from svhn_sweep.sweep.study.trial_run import run_info
from svhn_sweep.sweep.study.trial_values import finite_values
from svhn_sweep.sweep.workers.protocol import TrialEnded
from svhn_sweep.sweep.workers.sweep_callbacks import SweepCallbacks
from svhn_sweep.tracking.journal import Journal, end_tags, finalize_if_dead
from svhn_sweep.trial_end import CHECKPOINT
from svhn_sweep.trial_status import TrialStatus


class TrialFinalizer:
    """Records how trials end, and ends the sweep after too many consecutive failures."""

    def __init__(
        self,
        settings: SweeperConfig,
        callbacks: SweepCallbacks,
        on_study_change: Callable[[Study], object],
    ) -> None:
        """Starts counting failures at 0.

        Args:
            settings: The sweep's settings.
            callbacks: Its `on_trial_end` is called for each trial.
            on_study_change: Is called with a study after one of its trials ended for good.
        """
        self.settings = settings
        self.callbacks = callbacks
        self.on_study_change = on_study_change
        self.consecutive_failures = 0

    def finalize(self, study: Study, pending: PendingTrial, ended: TrialEnded) -> None:
        """Records the end of a trial.

        The worker has normally written the end to the trial's journal: that end is told to Optuna.
        `ended` is recorded only if the worker could not.

        Raises:
            SweepError: Too many consecutive trials failed.
        """
        folder = study.plan.trial_dir(pending.number)
        recorded = recorded_end(folder)
        if recorded is None:
            # The worker could not write the end, perhaps not even the start.
            with Journal(folder) as journal:
                run_info(study.plan, pending).start(journal)
                journal.end(ended.status, ended.reason)
            recorded = ended
        self._tell(study, pending, recorded)
        succeeded = recorded.status.is_success
        self.consecutive_failures = 0 if succeeded else self.consecutive_failures + 1
        if self.consecutive_failures >= self.settings.max_consecutive_failures:
            raise SweepError(
                f"{self.consecutive_failures} trials failed in a row, "
                f"the last one because: {recorded.reason}"
            )

    def interrupt(self, study: Study, pending: PendingTrial, reason: str) -> None:
        """Puts a trial, whose folder no worker uses, back among those to be trained."""
        # MLflow must not show it as running while it waits.
        finalize_if_dead(study.plan.trial_dir(pending.number))
        study.interrupt(pending.number)
        self.callbacks.on_trial_end(
            study.plan.name, pending.number, TrialStatus.interrupted, None, reason
        )

    def stop(self, study: Study, pending: PendingTrial) -> None:
        """Records the end that is in a trial's journal; interrupts the trial if there is none."""
        recorded = recorded_end(study.plan.trial_dir(pending.number))
        if recorded is None:
            self.interrupt(study, pending, "")
        else:
            self._tell(study, pending, recorded)

    def _tell(self, study: Study, pending: PendingTrial, ended: TrialEnded) -> None:
        """Tells Optuna and the callbacks about an end that is in the trial's journal."""
        trial = study.tell(pending.number, ended.status, ended.reason)
        (study.plan.trial_dir(pending.number) / CHECKPOINT).unlink(missing_ok=True)
        values = finite_values(trial).values() if ended.status.is_success else []
        value = self.settings.best_value(values) if values else None
        self.callbacks.on_trial_end(
            study.plan.name, pending.number, ended.status, value, ended.reason
        )
        self.on_study_change(study)


def recorded_end(folder: Path) -> TrialEnded | None:
    """Returns how the trial in a folder ended according to its journal; None if it can go on."""
    tags = end_tags(folder)
    if tags is None:
        return None
    status = TrialStatus(str(tags["trial.state"]))
    if status == TrialStatus.interrupted:
        return None
    return TrialEnded(status, str(tags["trial.reason"]))
