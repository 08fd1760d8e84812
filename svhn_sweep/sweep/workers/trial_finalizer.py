"""What follows the end of a trial: its journal is closed, Optuna is told, callbacks are called."""

from collections.abc import Callable

from svhn_sweep.errors import SweepError
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.study.intermediate_values import finite_values
from svhn_sweep.sweep.study.study import PendingTrial, Study
from svhn_sweep.sweep.workers.callbacks import SweepCallbacks
from svhn_sweep.sweep.workers.protocol import TrialEnded
from svhn_sweep.sweep.workers.trial_journal import open_trial_journal, recorded_end
from svhn_sweep.trial import CHECKPOINT
from svhn_sweep.trial_status import TrialStatus


class TrialFinalizer:
    """Records how trials ended, and ends the sweep after too many consecutive failures."""

    def __init__(
        self,
        settings: SweeperConfig,
        callbacks: SweepCallbacks,
        on_study_change: Callable[[Study], object],
    ) -> None:
        """Start counting failures at 0.

        Args:
            settings: of the sweep.
            callbacks: `on_trial_end` is called for each trial.
            on_study_change: called with a study after one of its trials ended for good.
        """
        self.settings = settings
        self.callbacks = callbacks
        self.on_study_change = on_study_change
        self.consecutive_failures = 0

    def finalize(self, study: Study, pending: PendingTrial, ended: TrialEnded) -> None:
        """Record a trial's end; an end that its journal already has wins over `ended`.

        Raises:
            SweepError: too many consecutive trials failed.
        """
        recorded = recorded_end(study.folder(pending.number))
        if recorded is None:
            # The worker could not write the end, perhaps not even the start.
            with open_trial_journal(study, pending) as journal:
                journal.end(ended.status, ended.reason)
            recorded = ended
        self.tell(study, pending, recorded)
        succeeded = recorded.status.is_success
        self.consecutive_failures = 0 if succeeded else self.consecutive_failures + 1
        if self.consecutive_failures >= self.settings.max_consecutive_failures:
            raise SweepError(
                f"{self.consecutive_failures} trials failed in a row, "
                f"the last one because: {recorded.reason}"
            )

    def tell(self, study: Study, pending: PendingTrial, ended: TrialEnded) -> None:
        """Tell Optuna about an end that the trial's journal has."""
        trial = study.tell(pending.number, ended.status, ended.reason)
        (study.folder(pending.number) / CHECKPOINT).unlink(missing_ok=True)
        values = finite_values(trial).values() if ended.status.is_success else []
        value = self.settings.best(values) if values else None
        self.callbacks.on_trial_end(
            study.plan.name, pending.number, ended.status, value, ended.reason
        )
        self.on_study_change(study)

    def interrupt(self, study: Study, pending: PendingTrial, reason: str) -> None:
        """Put the trial back among those that wait; it goes on after its last epoch."""
        study.interrupt(pending.number)
        self.callbacks.on_trial_end(
            study.plan.name, pending.number, TrialStatus.interrupted, None, reason
        )
