"""One study: which trial comes next, and what came of it."""

import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from svhn_sweep.sweep.plan.plan import Params, Plan
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.study.compatibility import bind_folder, check_same, get_or_set_attr
from svhn_sweep.sweep.study.sampling import pruner, sampler, suggest
from svhn_sweep.tracking import journal, tracking_uri
from svhn_sweep.trial import RunInfo, experiment_name
from svhn_sweep.trial_status import TrialStatus


@dataclass(frozen=True)
class PendingTrial:
    """A trial to be trained."""

    number: int
    params: Params
    epochs_done: int


@dataclass
class _Running:
    """A trial in a worker, and the epochs whose values Optuna has."""

    trial: Trial
    reported: set[int] = field(default_factory=set)


class Study:
    """A plan's trials in Optuna. The driver asks and tells, workers do not."""

    def __init__(
        self,
        plan: Plan,
        settings: SweeperConfig,
        storage: optuna.storages.BaseStorage,
        threads: int,
        *,
        prune: bool = True,
    ) -> None:
        """Create the study, or go on with it; the caller holds the lock of its name.

        Args:
            plan: what it explores.
            settings: of the sweep.
            storage: of Optuna.
            threads: for each trial, if the study is new; a study never mixes them.
            prune: whether hopeless trials are ended early.

        Raises:
            ConfigError: a study of this name explores something else.
        """
        self.plan, self.settings = plan, settings
        self.optuna = optuna.create_study(
            storage=storage,
            study_name=plan.name,
            direction=optuna.study.StudyDirection[settings.direction.upper()],
            load_if_exists=True,
        )
        self.threads = int(get_or_set_attr(self.optuna, "threads", str(threads)))
        check_same(self.optuna, plan)
        bind_folder(self.optuna, plan.folder)
        self._enqueue()
        trials = self.trials()
        self.optuna.sampler = sampler(settings.sampler, plan.config.seed, len(trials))
        self.optuna.pruner = (
            pruner(settings, plan.config.training.epochs) if prune else optuna.pruners.NopPruner()
        )
        # No driver trains what is found running. `Trial` takes an id that Optuna gives out under
        # this name alone.
        nobodys = [trial for trial in trials if trial.state == TrialState.RUNNING]
        self._interrupted = deque(Trial(self.optuna, trial._trial_id) for trial in nobodys)
        for folder in (self.folder(trial.number) for trial in nobodys):
            if (folder / journal.JOURNAL).exists():
                journal.finalize_if_dead(
                    folder
                )  # it was killed perhaps, and may have to wait for a worker: it does not run
        self._running: dict[int, _Running] = {}

    def folder(self, number: int) -> Path:
        """Where a trial lives, from its first start to its end."""
        return self.plan.folder / f"trial-{number:04d}"

    def run_info(self, assignment: PendingTrial) -> RunInfo:
        """What MLflow is told about a trial."""
        role = "baseline" if self.plan.is_baseline(assignment.number) else self.plan.role
        return RunInfo(
            name=self.plan.title(assignment.number, assignment.params),
            experiment=experiment_name(self.plan.config),
            store=tracking_uri.address(),
            tags={"role": role, "study": self.plan.name, "trial.number": assignment.number},
            parent=os.path.relpath(self.plan.parent_run_dir, self.folder(assignment.number)),
        )

    @property
    def n_trials(self) -> int:
        """How many there are in the end: the budget, or all that are queued."""
        return self.plan.n_trials or len(self.optuna.get_trials(deepcopy=False))

    def trials(self) -> list[FrozenTrial]:
        """All that were ever started, by number."""
        trials: list[FrozenTrial] = self.optuna.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state != TrialState.WAITING]

    def finished(self) -> list[FrozenTrial]:
        """The trials that count: complete, pruned or failed."""
        return [trial for trial in self.trials() if trial.state.is_finished()]

    def next(self) -> PendingTrial | None:
        """An interrupted trial, else a new one; None if the budget is used up or the target is
        reached.
        """
        if self.left() == 0:
            return None
        trial = self._interrupted.popleft() if self._interrupted else self.optuna.ask()
        for key, each in self.plan.space.items():
            suggest(trial, key, each)
        if "state" in trial.user_attrs:  # it was interrupted
            trial.set_user_attr("state", TrialStatus.running.value)
        known = self.optuna.get_trials(deepcopy=False)[trial.number]
        self._running[trial.number] = _Running(trial, set(known.intermediate_values))
        params = {key: known.params[key] for key in self.plan.space}
        done = max(journal.history(self.folder(trial.number)), default=0)
        return PendingTrial(trial.number, params, done)

    def left(self) -> int:
        """How many trials `next` has."""
        return len(self._interrupted) + self._room()

    def _room(self) -> int:
        return 0 if self._target_reached() else max(0, self.n_trials - len(self.trials()))

    def is_over(self) -> bool:
        """Whether nothing is left to train."""
        if any(trial.state == TrialState.RUNNING for trial in self.trials()):
            return False
        return self._room() == 0

    def interrupt(self, number: int) -> None:
        """The trial goes on later: in this driver's time, or the next one's."""
        trial = self._running[number].trial
        trial.set_user_attr("state", TrialStatus.interrupted.value)
        del self._running[number]
        self._interrupted.append(trial)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Note an epoch's value; returns whether to end the trial as hopeless.

        The baseline never is, nor is a trial that is at its end anyway. A resumed trial asks again
        about its last epoch, and hears the same answer.
        """
        running = self._running[number]
        trial = running.trial
        if epoch in running.reported:
            return bool(trial.user_attrs.get("stop_after") == epoch)
        trial.report(value, epoch)
        running.reported.add(epoch)
        # The baseline is judged as well, since halving has the others compete with whoever was.
        hopeless = epoch < self.plan.epochs(trial.params) and trial.should_prune()
        stop = hopeless and number > 0
        if stop:
            trial.set_user_attr("stop_after", epoch)
        return stop

    def tell(self, number: int, status: TrialStatus, reason: str) -> FrozenTrial:
        """Tell Optuna how a trial ended; every epoch that its folder knows of is reported first.

        Args:
            number: of the trial.
            status: complete, pruned, diverged or failed.
            reason: in words; empty if there is nothing to explain.
        """
        epochs = journal.history(self.folder(number))
        finals = epochs.pop(0, {})
        attributes: dict[str, str | float] = {"state": status.value, "reason": reason}
        attributes["seconds"] = sum(metrics["epoch_seconds"] for metrics in epochs.values())
        if "val/best_accuracy" in finals:
            attributes["best_accuracy"] = finals["val/best_accuracy"]
        running = self._running[number]
        for epoch in sorted(set(epochs) - running.reported):
            running.trial.report(epochs[epoch][self.settings.metric], epoch)
        told = self._finish(running.trial, status, attributes, epochs)
        del self._running[number]
        return told

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
        """What the plan begins with, unless it is there; where that is all there is, what failed is
        tried again.

        Optuna's own `skip_if_exists` takes two seeds that differ by less than a hundred thousandth
        for one.
        """
        failed = {TrialStatus.failed} if self.plan.n_trials is None else set()
        trials = self.optuna.get_trials(deepcopy=False)
        known = [
            t.system_attrs.get("fixed_params")
            for t in trials
            if t.user_attrs.get("state") not in failed
        ]
        for params in self.plan.enqueued_trials:
            if dict(params) not in known:
                self.optuna.enqueue_trial(dict(params))

    def _finish(
        self,
        trial: Trial,
        status: TrialStatus,
        attributes: Mapping[str, str | float],
        epochs: Mapping[int, Mapping[str, float]],
    ) -> FrozenTrial:
        for key, attribute in attributes.items():  # a finished trial takes no attributes
            trial.set_user_attr(key, attribute)
        if status == TrialStatus.complete:
            best = self.settings.best(metrics[self.settings.metric] for metrics in epochs.values())
            return self.optuna.tell(trial, best, TrialState.COMPLETE)
        return self.optuna.tell(trial, state=TrialState[status.optuna_state])

    def _target_reached(self) -> bool:
        target = self.settings.target_value
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
