"""How far a study is: its finished and running trials, and the time that is left."""

from dataclasses import dataclass, field

from svhn_sweep.trial_status import TrialStatus


@dataclass(frozen=True)
class FinishedTrial:
    """A trial that ended.

    Attributes:
        number: of the trial in its study.
        status: how it ended.
        value: its result; None if it has none.
        is_baseline: whether it is the study's baseline.
    """

    number: int
    status: TrialStatus
    value: float | None
    is_baseline: bool = False


@dataclass
class RunningTrial:
    """A trial in a worker.

    Attributes:
        description: its hyperparameters in words, or "baseline".
        epochs: that it has at most.
        resumed_after: epochs that were trained in earlier sessions.
        started: when its worker began, in seconds of the clock.
        epoch: how many epochs are done.
        values: of the epochs of this session, by epoch.
    """

    description: str
    epochs: int
    resumed_after: int
    started: float
    epoch: int
    values: dict[int, float] = field(default_factory=dict)

    @property
    def is_baseline(self) -> bool:
        """Whether it is the study's baseline."""
        return self.description == "baseline"


@dataclass
class StudyProgress:
    """The trials of a study as the terminal shows them.

    Attributes:
        n_trials: how many there will be.
        finished: trials that ended, of earlier sessions too.
        is_search: whether the study looks for the best config; a confirmation does not.
        running: trials in workers, by number.
        seconds: that trials took in this session.
        trials_done: trials behind `seconds`; one that was resumed halfway counts as half.
    """

    n_trials: int
    finished: list[FinishedTrial]
    is_search: bool
    running: dict[int, RunningTrial] = field(default_factory=dict)
    seconds: float = 0.0
    trials_done: float = 0.0

    def results(self, *, baseline_only: bool = False) -> dict[int, float]:
        """Returns the values of complete trials by number; pruned trials have no result."""
        return {
            trial.number: trial.value
            for trial in self.finished
            if trial.status == TrialStatus.complete
            and trial.value is not None
            and (trial.is_baseline or not baseline_only)
        }

    def finish(self, number: int, status: TrialStatus, value: float | None, seconds: float) -> None:
        """Moves a running trial to the finished ones; an interrupted one is only removed."""
        trial = self.running.pop(number)
        if status == TrialStatus.interrupted:
            return
        self.finished.append(FinishedTrial(number, status, value, trial.is_baseline))
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
        """Returns the time left if trials go on taking their mean.

        Empty before the first trial ended, after the last one, and without a worker.
        """
        trials = self.n_trials - len(self.finished)
        if trials <= 0 or workers <= 0 or not self.trials_done:
            return ""
        trials_left = trials - sum(trial.epoch / trial.epochs for trial in self.running.values())
        minutes = trials_left * self.seconds / self.trials_done / min(workers, trials) / 60
        return f"about {format_duration(60 * max(1, round(minutes)))} left"


def format_duration(seconds: float) -> str:
    """Returns for example 45 s, 2 min 10 s, 12 min, 1 h 40 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        parts = [(minutes // 60, "h"), (minutes % 60, "min")]
    else:
        parts = [(minutes, "min"), (rest, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"
