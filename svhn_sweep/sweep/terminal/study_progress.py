"""Counts the finished and running trials of a study and estimates the time left."""

from dataclasses import dataclass, field

from svhn_sweep.sweep.plan.plan import BASELINE_NUMBER
from svhn_sweep.trial_status import TrialStatus


@dataclass(frozen=True)
class FinishedTrial:
    """Describes a trial that ended.

    Attributes:
        number: The trial's number in its study; 0 is the baseline in a search.
        status: How the trial ended.
        value: The trial's value of the sweep's metric; None if it has none.
        description: The trial's hyperparameters as text, or "baseline".
    """

    number: int
    status: TrialStatus
    value: float | None
    description: str


@dataclass
class RunningTrial:
    """Describes a trial that a worker trains.

    Attributes:
        description: The trial's hyperparameters as text, or "baseline".
        epochs: The most epochs that the trial trains.
        resumed_after: Epochs that were trained before the worker began; 0 for a new trial.
        started: When the worker began, in seconds of the progress' clock.
        epoch: The last finished epoch, from 1; 0 before the first.
        values: The metric of each epoch after `resumed_after`, by epoch.
    """

    description: str
    epochs: int
    resumed_after: int
    started: float
    epoch: int
    values: dict[int, float] = field(default_factory=dict)


@dataclass
class StudyProgress:
    """Holds the trials of a study for the display.

    Attributes:
        n_trials: The study's budget of trials.
        finished: Trials that ended, those of earlier starts of the sweep included.
        is_search: Whether the study searches the best config; False for a confirmation.
        running: Trials in workers, by number.
        seconds: Total duration of the trials that ended since the sweep was started.
        trials_done: Trials behind `seconds`; one that was resumed halfway counts as half.
    """

    n_trials: int
    finished: list[FinishedTrial]
    is_search: bool
    running: dict[int, RunningTrial] = field(default_factory=dict)
    seconds: float = 0.0
    trials_done: float = 0.0

    def complete_values(self) -> dict[int, float]:
        """Returns the values of complete trials by number."""
        return {
            trial.number: trial.value
            for trial in self.finished
            if trial.status == TrialStatus.complete and trial.value is not None
        }

    def description(self, number: int) -> str:
        """Returns the hyperparameters of a finished trial."""
        return next(trial.description for trial in self.finished if trial.number == number)

    def is_baseline(self, number: int) -> bool:
        """Returns whether a trial is the baseline: the first of a search; no confirmation's is."""
        return self.is_search and number == BASELINE_NUMBER

    def baseline_value(self) -> float | None:
        """Returns the baseline's value; None in a confirmation, or before it is complete."""
        return self.complete_values().get(BASELINE_NUMBER) if self.is_search else None

    def finish(self, number: int, status: TrialStatus, value: float | None, seconds: float) -> None:
        """Moves a running trial to the finished ones; an interrupted one is only removed."""
        trial = self.running.pop(number)
        if status == TrialStatus.interrupted:
            return
        self.finished.append(FinishedTrial(number, status, value, trial.description))
        self.seconds += seconds
        self.trials_done += 1 - trial.resumed_after / trial.epochs

    def format_counts(self) -> str:
        """Returns for example "3/24  2 complete, 1 pruned, 0 failed"."""
        statuses = [trial.status for trial in self.finished]
        complete = statuses.count(TrialStatus.complete)
        pruned = statuses.count(TrialStatus.pruned)
        failed = statuses.count(TrialStatus.failed) + statuses.count(TrialStatus.diverged)
        return (
            f"{len(statuses)}/{self.n_trials}  "
            f"{complete} complete, {pruned} pruned, {failed} failed"
        )

    def format_time_left(self, workers: int) -> str:
        """Estimates the time left from the mean duration of the trials so far.

        Args:
            workers: How many trials can be trained at the same time.

        Returns:
            For example "about 13 min left", of a confirmation "at most 13 min left"; empty before
            the first trial ended, after the last one, and without a worker.
        """
        trials = self.n_trials - len(self.finished)
        if trials <= 0 or workers <= 0 or not self.trials_done:
            return ""
        trials_left = trials - sum(trial.epoch / trial.epochs for trial in self.running.values())
        minutes = trials_left * self.seconds / self.trials_done / min(workers, trials) / 60
        about = "about" if self.is_search else "at most"  # a race may need fewer trials
        return f"{about} {format_duration(60 * max(1, round(minutes)))} left"


def format_duration(seconds: float) -> str:
    """Formats seconds, for example as 45 s, 2 min 10 s, 12 min or 1 h 40 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        parts = [(minutes // 60, "h"), (minutes % 60, "min")]
    else:
        parts = [(minutes, "min"), (rest, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"
