"""One study: which trial comes next, and what came of it."""

import os
import zlib
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from svhn_sweep.sweep.claims import Claims
from svhn_sweep.sweep.identity import agreed, check_same, recognise
from svhn_sweep.sweep.leaderboard import SURPLUS, is_surplus
from svhn_sweep.sweep.ownership import Ownership, TakenOverError
from svhn_sweep.sweep.patience import PatientStorage
from svhn_sweep.sweep.plan import Params, Plan
from svhn_sweep.sweep.sampling import pruner, sampler, suggest
from svhn_sweep.sweep.settings import SweeperConfig
from svhn_sweep.tracking import journal
from svhn_sweep.trial import Label

HOSTS = "hosts"
LATE = (TakenOverError, optuna.exceptions.UpdateFinishedTrialError)  # another driver has the trial, or has finished it


@dataclass(frozen=True)
class Assignment:
    """A trial to be trained; `former`: the driver that it was taken over from."""

    number: int
    params: Params
    epochs_done: int
    former: str | None = None


class Study:
    """A plan's trials in Optuna. Drivers ask and tell, workers do not."""

    def __init__(
        self,
        plan: Plan,
        settings: SweeperConfig,
        storage: optuna.storages.BaseStorage,
        threads: int,
        *,
        prune: bool = True,
        claims: Claims | None = None,
    ) -> None:
        """Create the study, or go on with it.

        Args:
            plan: what it explores.
            settings: of the sweep.
            storage: of Optuna.
            threads: for each trial, if the study is new; a study never mixes them.
            prune: whether hopeless trials are ended early.
            claims: on trials, where other drivers work on the same study; the caller has it to himself meanwhile.

        Raises:
            ConfigError: a study of this name explores something else.
        """
        self.plan, self.settings, self.claims = plan, settings, claims
        self.optuna = optuna.create_study(
            storage=storage,
            study_name=plan.name,
            direction=optuna.study.StudyDirection[settings.direction.upper()],
            load_if_exists=True,
        )
        self.ownership = Ownership(self.optuna, claims)
        self.threads = int(agreed(self.optuna, "threads", str(threads)))
        check_same(self.optuna, plan)
        recognise(self.optuna, plan.folder, shared=claims is not None)
        self._enqueue()
        trials = self.trials()
        owner = zlib.crc32(claims.owner.encode()) if claims else 0
        self.optuna.sampler = sampler(settings.sampler, plan.config.seed, len(trials), owner)
        self.optuna.pruner = pruner(settings, plan.config.training.epochs) if prune else optuna.pruners.NopPruner()
        nobodys = [trial for trial in trials if trial.state == TrialState.RUNNING] if claims is None else []
        self._interrupted = deque(nobodys)
        for folder in (self.folder(trial.number) for trial in self._interrupted):
            if (folder / journal.JOURNAL).exists():
                journal.has_ended(folder)  # it was killed perhaps, and may have to wait for a worker: it does not run
        self._running: dict[int, Trial] = {}

    @property
    def own_folder(self) -> Path:
        """Where this driver writes about the study as a whole: its folder, or where drivers may share that, its own."""
        return self.plan.home if self.claims is None else self.plan.home / HOSTS / self.claims.owner

    def sees(self, owner: str) -> bool:
        """Whether another driver's folder is this one's as well."""
        return (self.plan.home / HOSTS / owner).exists()

    def hurry(self) -> None:
        """Wait no longer for a database that does not answer."""
        if isinstance(self.optuna._storage, PatientStorage):
            self.optuna._storage.hurried = True

    def folder(self, number: int) -> Path:
        """Where a trial lives, from its first start to its end."""
        return self.plan.folder / f"trial-{number:04d}"

    def label(self, assignment: Assignment) -> Label:
        """What MLflow is told about a trial."""
        role = "baseline" if self.plan.is_baseline(assignment.number) else self.plan.role
        tags: dict[str, journal.Scalar] = {"role": role, "study": self.plan.name}
        title = self.plan.title(assignment.number, assignment.params)
        parent = os.path.relpath(self.own_folder, self.folder(assignment.number))
        return Label(title, tags | {"trial.number": assignment.number}, parent)

    @property
    def n_trials(self) -> int:
        """How many there are in the end: the budget, or all that are queued."""
        return self.plan.n_trials or sum(not is_surplus(trial) for trial in self.optuna.get_trials(deepcopy=False))

    def trials(self) -> list[FrozenTrial]:
        """All that were ever started, by number."""
        trials: list[FrozenTrial] = self.optuna.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state != TrialState.WAITING and not is_surplus(trial)]

    def finished(self) -> list[FrozenTrial]:
        """The trials that count: complete, pruned or failed."""
        return [trial for trial in self.trials() if trial.state.is_finished()]

    def next(self) -> Assignment | None:
        """An interrupted trial, else a new one; None if the budget is used up or the target is reached."""
        while (trial := self._go_on() or self._new()) is not None:
            try:
                former = self.ownership.claim(trial)
                if not self.ownership.is_admitted(trial.number, self.plan.n_trials):
                    self._finish(trial, TrialState.FAIL, {"state": SURPLUS})
                    continue
                for key, each in self.plan.space.items():
                    suggest(trial, key, each)
                if "state" in trial.user_attrs:  # it was interrupted
                    trial.set_user_attr("state", "running")
                known = self.ownership.check(trial._trial_id).params
                params = {key: known[key] for key in self.plan.space}
            except LATE:
                self.ownership.let_go(trial._trial_id)
                continue
            return self._assignment(trial, params, former)
        return None

    def _go_on(self) -> Trial | None:
        """A trial that this driver had to interrupt, and nobody took over."""
        while self._interrupted:
            waiting = self._interrupted.popleft()
            try:
                self.ownership.check(waiting._trial_id)
            except LATE:
                self.ownership.let_go(waiting._trial_id)
            else:
                return Trial(self.optuna, waiting._trial_id)
        return None

    def _new(self) -> Trial | None:
        """A trial whose driver is dead, or one that never ran."""
        trials = self.optuna.get_trials(deepcopy=False)
        abandoned = self.ownership.take(trials, self.folder)
        if abandoned is not None:
            return abandoned
        started = sum(trial.state != TrialState.WAITING and not is_surplus(trial) for trial in trials)
        return self.optuna.ask() if started < self.n_trials and not self._target_reached() else None

    def _assignment(self, trial: Trial, params: Params, former: str | None) -> Assignment:
        self._running[trial.number] = trial
        done = max(journal.history(self.folder(trial.number)), default=0)
        return Assignment(trial.number, params, done, former)

    def is_over(self) -> bool:
        """Whether no driver has anything left to train."""
        if any(trial.state == TrialState.RUNNING for trial in self.trials()):
            return False
        return len(self.trials()) >= self.n_trials or self._target_reached()

    def interrupted(self, number: int) -> None:
        """The trial goes on later: in this driver's time, or the next one's.

        Raises:
            TakenOverError: another driver has the trial.
        """
        running = self._running[number]
        with self.ownership.kept(running._trial_id):
            running.set_user_attr("state", "interrupted")
        del self._running[number]
        self._interrupted.append(self.optuna._storage.get_trial(running._trial_id))

    def drop(self, number: int) -> None:
        """The trial is another driver's; what this one knows of it is not told."""
        self.ownership.let_go(self._running.pop(number)._trial_id)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Note an epoch's value; returns whether to end the trial as hopeless.

        The baseline never is, nor is a trial that is at its end anyway. A resumed trial asks again about its last
        epoch, and hears the same answer.

        Raises:
            TakenOverError: another driver has the trial.
        """
        running = self._running[number]
        with self.ownership.kept(running._trial_id) as known:
            if epoch in known.intermediate_values:
                return bool(known.user_attrs.get("stop_after") == epoch)
            running.report(value, epoch)
            # The baseline is judged as well, since halving has the others compete with whoever was.
            hopeless = epoch < self.plan.epochs(known.params) and running.should_prune()
            stop = hopeless and number > 0
            if stop:
                running.set_user_attr("stop_after", epoch)
        return stop

    def tell(self, number: int, state: str, reason: str) -> FrozenTrial:
        """Tell Optuna how a trial ended; every epoch that its folder knows of is reported first.

        Args:
            number: of the trial.
            state: complete, pruned, diverged or failed.
            reason: in words; empty if there is nothing to explain.

        Raises:
            TakenOverError: another driver has the trial.
        """
        epochs = journal.history(self.folder(number))
        finals = epochs.pop(0, {})
        attributes: dict[str, str | float] = {"state": state, "reason": reason}
        attributes["seconds"] = sum(metrics["epoch_seconds"] for metrics in epochs.values())
        if "val/best_accuracy" in finals:
            attributes["best_accuracy"] = finals["val/best_accuracy"]
        trial = self._running[number]
        with self.ownership.kept(trial._trial_id) as known:
            for epoch in sorted(set(epochs) - set(known.intermediate_values)):
                trial.report(epochs[epoch][self.settings.metric], epoch)
            if state == "complete":
                best = self.settings.best(metrics[self.settings.metric] for metrics in epochs.values())
                self._finish(trial, TrialState.COMPLETE, attributes, best)
            else:
                self._finish(trial, TrialState.PRUNED if state == "pruned" else TrialState.FAIL, attributes)
        del self._running[number]
        return self.optuna._storage.get_trial(trial._trial_id)

    def best(self) -> FrozenTrial | None:
        """The best complete trial, of equals the first."""
        complete = [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]
        sign = -1 if self.settings.maximize else 1
        return min(complete, key=lambda trial: (sign * result(trial), trial.number), default=None)

    def baseline(self) -> FrozenTrial | None:
        """The first trial, once it is complete."""
        trials = self.trials()
        return trials[0] if trials and trials[0].state == TrialState.COMPLETE else None

    def _enqueue(self) -> None:
        """What the plan begins with, unless it is there; where that is all there is, what failed is tried again.

        Optuna's own `skip_if_exists` takes two seeds that differ by less than a hundred thousandth for one.
        """
        failed = {"failed"} if self.plan.n_trials is None else set()
        trials = self.optuna.get_trials(deepcopy=False)
        known = [
            t.system_attrs.get("fixed_params") for t in trials if t.user_attrs.get("state") not in {SURPLUS} | failed
        ]
        for params in self.plan.queue:
            if dict(params) not in known:
                self.optuna.enqueue_trial(dict(params))

    def _finish(
        self, trial: Trial, state: TrialState, attributes: Mapping[str, str | float], value: float | None = None
    ) -> None:
        for key, attribute in attributes.items():  # a finished trial takes no attributes
            trial.set_user_attr(key, attribute)
        if self.claims is not None:
            self.ownership.check(trial._trial_id)
        with suppress(optuna.exceptions.UpdateFinishedTrialError):  # done, but the answer was lost on its way
            self.optuna.tell(trial, value, state, skip_if_finished=True)
        self.ownership.let_go(trial._trial_id)

    def _target_reached(self) -> bool:
        target = self.settings.target
        if target is None or self.plan.n_trials is None:  # all that is queued is to be trained
            return False
        best = self.best()
        if best is None:
            return False
        return result(best) >= target if self.settings.maximize else result(best) <= target


def result(trial: FrozenTrial) -> float:
    """The value of a complete trial."""
    assert trial.value is not None, f"trial {trial.number} is not complete"
    return trial.value
