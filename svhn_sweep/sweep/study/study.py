"""Asks Optuna for the trials of a study, and tells it their values and how they end."""

from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from svhn_sweep.sweep.plan.plan import BASELINE_NUMBER, Plan
from svhn_sweep.sweep.plan.search_space import Params
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.study.compatibility import bind_folder, check_compatible, get_or_set_threads
from svhn_sweep.sweep.study.sampling import make_pruner, sampler_maker, suggest_params
from svhn_sweep.sweep.study.stop_rule import stop_reason, target_reached, unstarted_trials
from svhn_sweep.sweep.study.stored_trials import check_trials
from svhn_sweep.sweep.study.trial_values import ranked_trials
from svhn_sweep.sweep.study.untried_sampler import UntriedSampler
from svhn_sweep.tracking import journal
from svhn_sweep.trial_status import TrialStatus

SIZES = {"parameters", "multiply_adds"}  # of a trial's model: params of its run


@dataclass(frozen=True)
class PendingTrial:
    """A trial to be trained.

    Attributes:
        number: Optuna's number of the trial.
        params: The values of the explored keys.
        epochs_done: The epochs that it was trained for before it was interrupted.
    """

    number: int
    params: Params
    epochs_done: int


@dataclass
class _RunningTrial:
    trial: Trial
    reported: set[int] = field(default_factory=set)  # the epochs whose values Optuna has


class Study:
    """The trials of a plan in Optuna; only the driver uses it, never a worker.

    Attributes:
        plan: What the study explores.
        settings: The settings of the sweep.
        optuna_study: The study in Optuna's storage.
        threads: The CPU threads of each trial, the same from the first trial to the last.
    """

    def __init__(
        self,
        plan: Plan,
        settings: SweeperConfig,
        storage: optuna.storages.BaseStorage,
        threads: int,
        *,
        prune: bool = True,
    ) -> None:
        """Creates the study, or continues it; the caller holds the lock of its name.

        Args:
            plan: What the study explores.
            settings: The settings of the sweep.
            storage: Optuna's storage.
            threads: The CPU threads of each trial; a study that exists keeps its own number.
            prune: Whether the pruner of the settings is used.

        Raises:
            ConfigError: A study of this name exists that the plan cannot continue.
        """
        self.plan = plan
        self.settings = settings
        self.optuna_study = optuna.create_study(
            storage=storage,
            study_name=plan.name,
            direction=optuna.study.StudyDirection[settings.direction.upper()],
            load_if_exists=True,
        )
        check_compatible(self.optuna_study, plan)  # before trials are compared with the space
        check_trials(storage, plan)
        self.threads = get_or_set_threads(self.optuna_study, threads)
        bind_folder(self.optuna_study, plan.folder)
        self._enqueue_trials()
        self.optuna_study.sampler = UntriedSampler(
            sampler_maker(settings.sampler, plan), plan, self.trials
        )
        self.optuna_study.pruner = (
            make_pruner(settings, plan.config.training.epochs, plan.space)
            if prune
            else optuna.pruners.NopPruner()
        )
        self._running: dict[int, _RunningTrial] = {}
        self._interrupted = self._load_interrupted()

    def trials(self) -> list[FrozenTrial]:
        """Returns all trials that were ever started, by number."""
        return [trial for trial in self._all_trials() if trial.state != TrialState.WAITING]

    def finished(self) -> list[FrozenTrial]:
        """Returns the trials that count for the budget: complete, pruned, diverged or failed."""
        return [trial for trial in self.trials() if trial.state.is_finished()]

    def best(self) -> FrozenTrial | None:
        """Returns the complete trial with the best value, of equal ones the first."""
        return next(iter(self.ranked()), None)

    def ranked(self) -> list[FrozenTrial]:
        """Returns the complete trials, best first; those of equal value by number."""
        return ranked_trials(self.trials(), maximize=self.settings.maximize)

    def baseline(self) -> FrozenTrial | None:
        """Returns the first trial, once it is complete."""
        trials = self.trials()
        return trials[0] if trials and trials[0].state == TrialState.COMPLETE else None

    @property
    def n_trials(self) -> int:
        """The number of trials at the end, unless the target value is reached before."""
        trials = self._all_trials()
        started = sum(trial.state != TrialState.WAITING for trial in trials)
        return started + self._unstarted_trials(trials)

    @property
    def stop_reason(self) -> str:
        """Why the search ends before its budget is used up; empty if it does not."""
        return stop_reason(self.plan, self.settings, self._all_trials())

    def trials_left(self) -> int:
        """Counts the trials that `ask` can still return."""
        trials = self._all_trials()
        return len(self._resumable(trials)) + self._startable_trials(trials)

    def is_finished(self) -> bool:
        """Returns whether no trial is running or left to be started."""
        trials = self._all_trials()
        if any(trial.state == TrialState.RUNNING for trial in trials):
            return False
        return self._startable_trials(trials) == 0

    def ask(self) -> PendingTrial | None:
        """Returns an interrupted trial, else a new one; None if `trials_left` is 0."""
        trials = self._all_trials()
        resumable = self._resumable(trials)
        if resumable:
            trial = resumable[0]
            self._interrupted.remove(trial)
        elif self._startable_trials(trials) > 0:
            trial = self._ask_new(trials)
        else:
            return None
        params = suggest_params(trial, self.plan.space)
        if "state" in trial.user_attrs:  # it was interrupted
            trial.set_user_attr("state", TrialStatus.running.value)
        stored = self._all_trials()[trial.number]
        self._running[trial.number] = _RunningTrial(trial, set(stored.intermediate_values))
        return PendingTrial(trial.number, params, self.epochs_done(trial.number))

    def epochs_done(self, number: int) -> int:
        """Returns the epochs that a trial was trained for before."""
        return max(journal.history(self.plan.trial_dir(number)), default=0)

    def interrupt(self, number: int) -> None:
        """Marks a running trial as interrupted; `ask`, or the next start, continues it."""
        trial = self._running[number].trial
        trial.set_user_attr("state", TrialStatus.interrupted.value)
        del self._running[number]
        self._interrupted.append(trial)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Reports the value of an epoch to Optuna.

        A resumed trial reports its last epoch again. It is pruned if it was to be; else the pruner
        is asked again, since the last driver may have died before it was. The baseline is never
        pruned, nor is a trial after its last epoch.

        Args:
            number: The trial's number.
            epoch: From 1.
            value: The metric that the study optimizes.

        Returns:
            Whether the trial is to be pruned.
        """
        running = self._running[number]
        trial = running.trial
        if epoch not in running.reported:
            trial.report(value, epoch)
            running.reported.add(epoch)
        elif trial.user_attrs.get("stop_after") == epoch:
            return True
        elif epoch < max(running.reported):
            return False
        # Successive halving compares a trial only with those that have called should_prune at the
        # same rung, so the baseline calls it too.
        prune = epoch < self.plan.epochs(trial.params) and trial.should_prune()
        prune = prune and number != BASELINE_NUMBER
        if prune:
            trial.set_user_attr("stop_after", epoch)
        return prune

    def tell(self, number: int, status: TrialStatus, reason: str) -> FrozenTrial:
        """Tells Optuna how a trial ended, after the values of all epochs in its journal.

        Args:
            number: The trial's number.
            status: Complete, pruned, diverged or failed.
            reason: Why it diverged or failed; empty if there is nothing to explain.

        Returns:
            The finished trial.
        """
        running = self._running[number]
        history = journal.history(self.plan.trial_dir(number))
        summary_metrics = history.pop(0, {})
        values = {epoch: metrics[self.settings.metric] for epoch, metrics in history.items()}
        for epoch in sorted(set(values) - running.reported):
            running.trial.report(values[epoch], epoch)
        # Optuna accepts attributes of unfinished trials only.
        running.trial.set_user_attr("state", status.value)
        running.trial.set_user_attr("reason", reason)
        seconds = sum(metrics["epoch_seconds"] for metrics in history.values())
        running.trial.set_user_attr("seconds", seconds)
        logged = journal.params(self.plan.trial_dir(number))
        for key in SIZES & logged.keys():  # none if it failed before its model was built
            running.trial.set_user_attr(key, logged[key])
        if "val/best_accuracy" in summary_metrics:
            running.trial.set_user_attr("best_accuracy", summary_metrics["val/best_accuracy"])
        finished = self.optuna_study.tell(
            running.trial,
            self.settings.best_value(values.values()) if status == TrialStatus.complete else None,
            TrialState[status.optuna_state],
        )
        del self._running[number]
        return finished

    def _all_trials(self) -> list[FrozenTrial]:
        trials: list[FrozenTrial] = self.optuna_study.get_trials(deepcopy=False)
        return trials

    def _startable_trials(self, trials: list[FrozenTrial]) -> int:
        return 0 if self._is_target_reached(trials) else self._unstarted_trials(trials)

    def _unstarted_trials(self, trials: list[FrozenTrial]) -> int:
        """Counts the trials that may be started unless the target value is reached."""
        return unstarted_trials(self.plan, trials)

    def _ask_new(self, trials: list[FrozenTrial]) -> Trial:
        return self.optuna_study.ask()

    def _resumable(self, trials: list[FrozenTrial]) -> list[Trial]:
        """The interrupted trials; once the target value is reached, the baseline alone."""
        if self._is_target_reached(trials):
            return [trial for trial in self._interrupted if self.plan.is_baseline(trial.number)]
        return list(self._interrupted)

    def _is_target_reached(self, trials: list[FrozenTrial]) -> bool:
        return self.plan.n_trials is not None and target_reached(self.settings, trials)

    def _enqueue_trials(self) -> None:
        """Enqueues the plan's trials, unless the study has them already."""
        enqueued = [trial.system_attrs.get("fixed_params") for trial in self._all_trials()]
        for params in self.plan.enqueued_trials:
            if dict(params) not in enqueued:
                self.optuna_study.enqueue_trial(dict(params))

    def _load_interrupted(self) -> list[Trial]:
        """The trials that a dead driver left running; their runs in MLflow end as interrupted."""
        running = [trial for trial in self.trials() if trial.state == TrialState.RUNNING]
        # Optuna resumes no trial (optuna#3351) and gives out a running one by no other id (#2987).
        interrupted = [Trial(self.optuna_study, trial._trial_id) for trial in running]
        for trial in running:
            journal.finalize_if_dead(self.plan.trial_dir(trial.number))
        return interrupted
