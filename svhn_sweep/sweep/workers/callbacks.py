"""What the scheduler reports while trials are trained."""

from typing import Protocol

from svhn_sweep.trial_status import TrialStatus


class SweepCallbacks(Protocol):
    """Called by the scheduler in its own thread; an exception ends the sweep.

    A trial is named by its study's name and its number.
    """

    def on_trial_start(
        self, study: str, number: int, description: str, epochs: int, resumed_after: int = 0
    ) -> None:
        """A worker begins a trial.

        Args:
            study: the name of its study.
            number: of the trial in the study.
            description: its hyperparameters in words, or "baseline".
            epochs: that the trial has at most.
            resumed_after: epochs that were trained before; 0 for a new trial.
        """

    def on_epoch(self, study: str, number: int, epoch: int, value: float) -> None:
        """A trial finished an epoch, counted from 1, with this value of the sweep's metric."""

    def on_trial_end(
        self, study: str, number: int, status: TrialStatus, value: float | None, reason: str = ""
    ) -> None:
        """A trial left its worker; an interrupted one starts again later."""

    def on_workers_change(self, workers: int) -> None:
        """So many trials can be trained at the same time from now on."""

    def on_message(self, text: str) -> None:
        """One line for the person who watches."""
