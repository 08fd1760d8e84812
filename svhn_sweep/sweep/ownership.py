"""Which trials of a study are this driver's, where several drivers may work on it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from svhn_sweep.sweep.claims import Claims
from svhn_sweep.sweep.leaderboard import is_surplus
from svhn_sweep.tracking import journal


class TakenOverError(Exception):
    """A trial that this driver was training is another one's, named `owner`, which may have finished it."""

    def __init__(self, owner: str) -> None:
        super().__init__(f"{owner} has it now")
        self.owner = owner


class Ownership:
    """The user attribute `owner` of each trial, and a heartbeat while it is being trained.

    Where a driver has the study to himself (`claims` is None), every trial is his, and nothing is written.
    """

    def __init__(self, study: optuna.Study, claims: Claims | None) -> None:
        self.study, self.claims = study, claims
        self.owner = claims.owner if claims is not None else None

    def has(self, trial: FrozenTrial) -> bool:
        """Whether this driver trained the trial, or has to look after it."""
        return self.claims is None or trial.user_attrs.get("owner") == self.owner

    def others_at_work(self) -> bool:
        """Whether another driver is training a trial."""
        running = [trial._trial_id for trial in self._trials() if trial.state == TrialState.RUNNING]
        return self.claims is not None and self.claims.others_alive(running)

    def check(self, trial_id: int) -> FrozenTrial:
        """The trial as the storage has it; of all questions the one that is asked most, and so about one trial only.

        Raises:
            TakenOverError: another driver has it, or has finished it.
        """
        trial = self.study._storage.get_trial(trial_id)
        owner = trial.user_attrs.get("owner")
        if trial.state != TrialState.RUNNING or owner != self.owner:
            raise TakenOverError(str(owner))
        return trial

    @contextmanager
    def kept(self, trial_id: int) -> Iterator[FrozenTrial]:
        """What is told of the trial within is told as long as it is this driver's; else TakenOverError is raised."""
        try:
            yield self.check(trial_id)
        except optuna.exceptions.UpdateFinishedTrialError as error:  # told while this driver waited for the database
            trial = self.study._storage.get_trial(trial_id)
            raise TakenOverError(str(trial.user_attrs.get("owner"))) from error

    def take(self, trials: list[FrozenTrial], folder: Callable[[int], Path]) -> Trial | None:
        """A running trial whose driver is dead; if its folder can be seen from here, nobody is writing there."""
        if self.claims is None:
            return None
        others = [t for t in trials if t.state == TrialState.RUNNING and t.user_attrs.get("owner") != self.owner]
        free = [trial._trial_id for trial in others if not journal.is_being_written(folder(trial.number))]
        taken = self.claims.take(free)
        return None if taken is None else Trial(self.study, taken)

    def claim(self, trial: Trial) -> str | None:
        """Make the trial this driver's; returns who had it before.

        Raises:
            TakenOverError: another driver was faster, since this one was cut off after it had asked for the trial.
        """
        if self.claims is None:
            return None
        former = trial.user_attrs.get("owner")
        known = self.study._storage.get_trial(trial._trial_id)
        if known.state != TrialState.RUNNING or known.user_attrs.get("owner") not in (former, self.owner):
            raise TakenOverError(str(known.user_attrs.get("owner")))
        self.claims.keep(trial._trial_id)
        trial.set_user_attr("owner", self.owner)
        return former if former != self.owner else None

    def is_admitted(self, number: int, n_trials: int | None) -> bool:
        """Whether the budget has room for the trial after those of lower numbers, whoever asked at the same time.

        Without a budget there is room for what was queued. What is in the queue twice was put there by a driver that
        lost the database before it had the answer, or has failed before.
        """
        trials = self._trials()
        if self.claims is None or trials[number].params:  # it was admitted before, whatever the budget is now
            return True
        earlier = [each for each in trials[:number] if not is_surplus(each)]
        queued = trials[number].system_attrs.get("fixed_params")
        if queued is None if n_trials is None else len(earlier) >= n_trials:
            return False
        twins = [each for each in earlier if queued is not None and each.system_attrs.get("fixed_params") == queued]
        return all(twin.state == TrialState.FAIL and twin.user_attrs["state"] == "failed" for twin in twins)

    def let_go(self, trial_id: int) -> None:
        """The trial is finished, or another driver's."""
        if self.claims is not None:
            self.claims.let_go(trial_id)

    def _trials(self) -> list[FrozenTrial]:
        return list(self.study.get_trials(deepcopy=False))
