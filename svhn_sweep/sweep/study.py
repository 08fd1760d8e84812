"""One study: which trial comes next, and what came of it."""

import uuid
import warnings
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from svhn_sweep.errors import ConfigError
from svhn_sweep.sweep.plan import Params, Plan
from svhn_sweep.sweep.settings import SweeperConfig
from svhn_sweep.sweep.space import Value
from svhn_sweep.sweep.storage import write_whole
from svhn_sweep.tracking import journal
from svhn_sweep.trial import Label


@dataclass(frozen=True)
class Assignment:
    """A trial to be trained."""

    number: int
    params: Params
    epochs_done: int


class Study:
    """A plan's trials in Optuna. Its driver is the only process that asks and tells."""

    def __init__(
        self,
        plan: Plan,
        settings: SweeperConfig,
        storage: optuna.storages.BaseStorage,
        threads: int,
        *,
        prune: bool = True,
    ) -> None:
        """Create the study, or go on with it.

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
        self.threads = int(self._agreed("threads", str(threads)))
        if self._agreed("fingerprint", plan.fingerprint) != plan.fingerprint:
            raise ConfigError(
                f"hydra.sweeper.study_name must be new for a changed sweep, but {plan.name} explored another search "
                "space, other digits, another baseline or another metric."
            )
        self._recognise_folder()
        self._enqueue()
        self.n_trials = plan.n_trials or len(self.optuna.get_trials(deepcopy=False))
        trials = self.trials()
        self.optuna.sampler = sampler(settings.sampler, plan.config.seed, len(trials))
        self.optuna.pruner = _pruner(settings, plan.config.training.epochs) if prune else optuna.pruners.NopPruner()
        self._interrupted = deque(trial for trial in trials if trial.state == TrialState.RUNNING)
        for folder in (self.folder(trial.number) for trial in self._interrupted):
            if (folder / journal.JOURNAL).exists():
                journal.has_ended(folder)  # it was killed perhaps, and may have to wait for a worker: it does not run
        self._running: dict[int, Trial] = {}

    def folder(self, number: int) -> Path:
        """Where a trial lives, from its first start to its end."""
        return self.plan.folder / f"trial-{number:04d}"

    def label(self, assignment: Assignment) -> Label:
        """What MLflow is told about a trial."""
        role = "baseline" if self.plan.is_baseline(assignment.number) else self.plan.role
        tags: dict[str, journal.Scalar] = {"role": role, "study": self.plan.name}
        title = self.plan.title(assignment.number, assignment.params)
        return Label(title, tags | {"trial.number": assignment.number}, self.plan.parent)

    def trials(self) -> list[FrozenTrial]:
        """All that were ever started, by number."""
        trials: list[FrozenTrial] = self.optuna.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state != TrialState.WAITING]

    def finished(self) -> list[FrozenTrial]:
        """The trials that count: complete, pruned or failed."""
        return [trial for trial in self.trials() if trial.state.is_finished()]

    def next(self) -> Assignment | None:
        """An interrupted trial, else a new one; None if the budget is used up or the target is reached."""
        if self._interrupted:
            trial = Trial(self.optuna, self._interrupted.popleft()._trial_id)
            trial.set_user_attr("state", "running")
        elif len(self.trials()) < self.n_trials and not self._target_reached():
            trial = self.optuna.ask()
        else:
            return None
        params = {key: suggest(trial, key, each) for key, each in self.plan.space.items()}
        self._running[trial.number] = trial
        return Assignment(trial.number, params, max(journal.history(self.folder(trial.number)), default=0))

    def interrupted(self, number: int) -> None:
        """The trial goes on later: in this driver's time, or the next one's."""
        self._running.pop(number).set_user_attr("state", "interrupted")
        self._interrupted.append(self._trial(number))

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Note an epoch's value; returns whether to end the trial as hopeless.

        The baseline never is, nor is a trial that is at its end anyway. A resumed trial asks again about its last
        epoch, and hears the same answer.
        """
        known, running = self._trial(number), self._running[number]
        if epoch in known.intermediate_values:
            return bool(known.user_attrs.get("stop_after") == epoch)
        running.report(value, epoch)
        stop = number > 0 and epoch < self.plan.epochs(known.params) and running.should_prune()
        if stop:
            running.set_user_attr("stop_after", epoch)
        return stop

    def tell(self, number: int, state: str, reason: str) -> FrozenTrial:
        """Tell Optuna how a trial ended; every epoch that its folder knows of is reported first.

        Args:
            number: of the trial.
            state: complete, pruned, diverged or failed.
            reason: in words; empty if there is nothing to explain.
        """
        trial = self._running[number]
        folder = self.folder(number)
        epochs = journal.history(folder)
        epochs.pop(0, None)
        for epoch in sorted(set(epochs) - set(self._trial(number).intermediate_values)):
            trial.report(epochs[epoch][self.settings.metric], epoch)
        trial.set_user_attr("state", state)  # a finished trial takes no attributes
        trial.set_user_attr("reason", reason)
        trial.set_user_attr("seconds", sum(metrics["epoch_seconds"] for metrics in epochs.values()))
        if state == "complete":
            self.optuna.tell(trial, self.settings.best(metrics[self.settings.metric] for metrics in epochs.values()))
        else:
            self.optuna.tell(trial, state=TrialState.PRUNED if state == "pruned" else TrialState.FAIL)
        del self._running[number]
        return self._trial(number)

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
        known = [t.system_attrs.get("fixed_params") for t in trials if t.user_attrs.get("state") not in failed]
        for params in self.plan.queue:
            if dict(params) not in known:
                self.optuna.enqueue_trial(dict(params))

    def _trial(self, number: int) -> FrozenTrial:
        return self.optuna.get_trials(deepcopy=False)[number]

    def _recognise_folder(self) -> None:
        """Folder and database know each other by an id: trials of the same number are the same trial."""
        folder, attribute = self.plan.folder, self.optuna.user_attrs.get("id")
        mark = folder / "study.id"
        known = mark.read_text() if mark.exists() else None
        if attribute is None and not any(folder.glob("trial-*")):
            folder.mkdir(parents=True, exist_ok=True)
            known = attribute = uuid.uuid4().hex
            write_whole(mark, known)
            self.optuna.set_user_attr("id", attribute)
        if known != attribute:
            missing = "the folder is not there" if known is None else "the database does not know this folder"
            raise ConfigError(
                f"{folder} must belong to the study of that name in the database, but {missing}; put back what was "
                "moved, or take another hydra.sweeper.study_name."
            )

    def _target_reached(self) -> bool:
        best, target = self.best(), self.settings.target
        if best is None or target is None or self.plan.n_trials is None:  # all that is queued is to be trained
            return False
        return result(best) >= target if self.settings.maximize else result(best) <= target

    def _agreed(self, key: str, value: str) -> str:
        """What the study was created with."""
        if key not in self.optuna.user_attrs:
            self.optuna.set_user_attr(key, value)
        return str(self.optuna.user_attrs[key])


def result(trial: FrozenTrial) -> float:
    """The value of a complete trial."""
    assert trial.value is not None, f"trial {trial.number} is not complete"
    return trial.value


def suggest(trial: Trial, key: str, each: optuna.distributions.BaseDistribution) -> Value:
    """The trial's value, drawn now if a crash came between the trial and its values."""
    if isinstance(each, CategoricalDistribution):
        choice: Value = trial.suggest_categorical(key, each.choices)
        return choice
    if isinstance(each, FloatDistribution):
        return trial.suggest_float(key, each.low, each.high, step=each.step, log=each.log)
    assert isinstance(each, optuna.distributions.IntDistribution)
    return trial.suggest_int(key, each.low, each.high, step=each.step, log=each.log)


def sampler(name: str, seed: int, trials: int) -> optuna.samplers.BaseSampler:
    """A sampler that does not repeat itself in a study that goes on with so many trials.

    TPE and random search begin their draws anew with each process, so each start gets its own seed. QMC counts its
    points in the storage and needs the same seed always, but not for what it draws by chance: all, until a trial is
    complete, pruned or running from which it learns the space.
    """
    own = int(np.random.SeedSequence((seed, trials)).generate_state(1)[0])
    if name == "qmc":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.QMCSampler(seed=seed, independent_sampler=optuna.samplers.RandomSampler(seed=own))
    return optuna.samplers.TPESampler(seed=own) if name == "tpe" else optuna.samplers.RandomSampler(seed=own)


def _pruner(settings: SweeperConfig, epochs: int) -> optuna.pruners.BasePruner:
    pruner = settings.pruner
    first = max(1, pruner.warmup_epochs)
    match pruner.name:
        case "median":
            return optuna.pruners.MedianPruner(pruner.startup_trials, pruner.warmup_epochs)
        case "successive_halving":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=first)
        case "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=first, max_resource=max(first, epochs))
        case _:
            return optuna.pruners.NopPruner()
