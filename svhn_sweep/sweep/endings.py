"""What becomes of a trial: written to its folder, told to its study, shown in the terminal."""

from collections.abc import Callable

from svhn_sweep.errors import SweepError
from svhn_sweep.sweep.leaderboard import curve
from svhn_sweep.sweep.messages import Ended
from svhn_sweep.sweep.ownership import TakenOverError
from svhn_sweep.sweep.record import ending, record
from svhn_sweep.sweep.settings import SweeperConfig
from svhn_sweep.sweep.study import Assignment, Study
from svhn_sweep.sweep.view import Finished, View
from svhn_sweep.trial import CHECKPOINT


class Endings:
    """Deals with the trials of one driver that have ended, are interrupted, or are another driver's by now."""

    def __init__(self, settings: SweeperConfig, view: View, told: Callable[[Study], object]) -> None:
        """`told`: called with a study when one of its trials has ended."""
        self.settings, self.view, self.told = settings, view, told
        self.failures = 0  # in a row, of this search or confirmation

    def ended(self, study: Study, assignment: Assignment, ended: Ended) -> None:
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

    def tell(self, study: Study, assignment: Assignment, ended: Ended) -> None:
        """The study hears of an end that the trial's folder knows."""
        try:
            trial = study.tell(assignment.number, ended.state, ended.reason)
        except TakenOverError as other:
            self.drop(study, assignment, other)
            return
        (study.folder(assignment.number) / CHECKPOINT).unlink(missing_ok=True)
        values = curve(trial).values() if ended.state in ("complete", "pruned") else []
        value = self.settings.best(values) if values else None
        self.view.ended(study.plan.name, assignment.number, ended.state, value, ended.reason)
        if study.claims is not None:
            self.view.others(study.plan.name, finished(study))
        self.told(study)

    def interrupted(self, study: Study, assignment: Assignment, reason: str) -> None:
        """The trial goes on later."""
        try:
            study.interrupted(assignment.number)
        except TakenOverError as other:
            self.drop(study, assignment, other)
            return
        self.view.ended(study.plan.name, assignment.number, "interrupted", None, reason)

    def drop(self, study: Study, assignment: Assignment, other: TakenOverError) -> None:
        """Another driver took the trial over while this one was cut off: its result counts, not this one's."""
        study.drop(assignment.number)
        if not study.sees(other.owner):  # else what lies in the folder is the other driver's
            with record(study, assignment) as opened:
                opened.tags({"role": "dropped"})
                opened.end("KILLED", {"trial.state": "interrupted", "trial.reason": str(other)})
        self.view.ended(study.plan.name, assignment.number, "interrupted", None, str(other))


def finished(study: Study) -> list[Finished]:
    """The study's finished trials as the terminal shows them."""
    return [
        Finished(trial.number, trial.user_attrs["state"], trial.value, study.plan.is_baseline(trial.number))
        for trial in study.finished()
    ]
