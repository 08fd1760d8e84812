"""What becomes of a trial: written to its folder, told to its study, shown in the terminal."""

from collections.abc import Callable

from svhn_sweep.errors import SweepError
from svhn_sweep.sweep.leaderboard import curve
from svhn_sweep.sweep.record import ending, record
from svhn_sweep.sweep.settings import SweeperConfig
from svhn_sweep.sweep.study import Assignment, Study
from svhn_sweep.sweep.view import Finished, View
from svhn_sweep.sweep.workers.protocol import TrialEnded
from svhn_sweep.trial import CHECKPOINT


class Endings:
    """Deals with the trials that have ended or are interrupted."""

    def __init__(self, settings: SweeperConfig, view: View, told: Callable[[Study], object]) -> None:
        """`told`: called with a study when one of its trials has ended."""
        self.settings, self.view, self.told = settings, view, told
        self.failures = 0  # in a row, of this search or confirmation

    def ended(self, study: Study, assignment: Assignment, ended: TrialEnded) -> None:
        """The trial is over, in this way unless its folder knows of another.

        Raises:
            SweepError: too many trials failed in a row.
        """
        written = ending(study.folder(assignment.number))
        if written is None:
            # The worker could not write the end, perhaps not even the start.
            with record(study, assignment) as opened:
                opened.end("FAILED", {"trial.state": ended.state, "trial.reason": ended.reason})
        else:
            ended = written  # it was over before its worker was
        self.tell(study, assignment, ended)
        self.failures = 0 if ended.state in ("complete", "pruned") else self.failures + 1
        if self.failures >= self.settings.failures_in_a_row:
            raise SweepError(f"{self.failures} trials failed in a row, the last one because: {ended.reason}")

    def tell(self, study: Study, assignment: Assignment, ended: TrialEnded) -> None:
        """The study hears of an end that the trial's folder knows."""
        trial = study.tell(assignment.number, ended.state, ended.reason)
        (study.folder(assignment.number) / CHECKPOINT).unlink(missing_ok=True)
        values = curve(trial).values() if ended.state in ("complete", "pruned") else []
        value = self.settings.best(values) if values else None
        self.view.ended(study.plan.name, assignment.number, ended.state, value, ended.reason)
        self.told(study)

    def interrupted(self, study: Study, assignment: Assignment, reason: str) -> None:
        """The trial goes on later."""
        study.interrupted(assignment.number)
        self.view.ended(study.plan.name, assignment.number, "interrupted", None, reason)


def finished(study: Study) -> list[Finished]:
    """The study's finished trials as the terminal shows them."""
    return [
        Finished(trial.number, trial.user_attrs["state"], trial.value, study.plan.is_baseline(trial.number))
        for trial in study.finished()
    ]
