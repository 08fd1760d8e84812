"""The interface through which the scheduler reports progress."""

from typing import Protocol

from svhn_sweep.trial_status import TrialStatus


class SweepCallbacks(Protocol):
    """Receives the progress of trials, which are named by their study's name and their number.

    The scheduler calls every method in its own thread; an exception ends the sweep.
    """

    def on_trial_start(
        self, study: str, number: int, description: str, epochs: int, resumed_after: int = 0
    ) -> None:
        """Is called when a worker is assigned a trial, new or interrupted.

        Args:
            study: Name of the trial's study.
            number: The trial's number in the study.
            description: The trial's hyperparameters as text, or "baseline".
            epochs: The most epochs that the trial trains.
            resumed_after: Epochs that were trained before; 0 for a new trial.
        """

    def on_epoch(self, study: str, number: int, epoch: int, value: float) -> None:
        """Is called after each epoch, counted from 1, with its value of the sweep's metric."""

    def on_poll(self) -> None:
        """Is called about once a second while workers start or trials run."""

    def on_trial_end(
        self, study: str, number: int, status: TrialStatus, value: float | None, reason: str = ""
    ) -> None:
        """Is called when a trial has left its worker; without its start if a signal came between.

        Args:
            study: Name of the trial's study.
            number: The trial's number in the study.
            status: How the trial ended; an interrupted one starts again later.
            value: The best finite value of its epochs; None unless it is complete or pruned.
            reason: Why it ended this way; empty if there is nothing to explain.
        """

    def on_workers_change(self, workers: int) -> None:
        """Is called when the number of trials that can be trained at the same time changes."""

    def on_message(self, text: str) -> None:
        """Is called with a line of text for the user."""
