"""Confirms the best configs of a study: races them and the baseline on the same fresh seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from optuna.distributions import IntDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from svhn_sweep.config.data_sources import MAX_SEED
from svhn_sweep.sweep.plan.plan import BASELINE_NUMBER, Plan, trial_name
from svhn_sweep.sweep.plan.search_space import Params, SearchSpace
from svhn_sweep.sweep.plan.settings import ConfirmConfig, SweeperConfig
from svhn_sweep.sweep.selection.race import Race, RaceRules, VerdictOutcome, hold_race
from svhn_sweep.sweep.selection.verdict import Verdict, verdict_in_race, verdict_on_pairs
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.study.trial_values import objective_value
from svhn_sweep.trial_status import TrialStatus

MAX_TRIAL_NUMBER = 10_000_000
WINNER = "winner"  # attribute of a search: the trial that won its last race


@dataclass(frozen=True)
class ConfirmationPlan(Plan):
    """Plans a study whose two parameters are a trial of the search and a seed.

    Attributes:
        candidates: The trials that race against the baseline, the best of the search first.
        rules: The rules of the race.
        overrides_by_trial: What distinguishes each complete trial of the search, as overrides, by
            its number.
    """

    candidates: Sequence[int]
    rules: RaceRules
    overrides_by_trial: Mapping[int, tuple[str, ...]]

    role = "confirmation"

    @property
    def parent_run_dir(self) -> Path:
        """The folder of the search's run, in which MLflow nests these trials too."""
        return self.folder.parent

    def trial_overrides(self, params: Params) -> list[str]:
        """Returns the overrides of the trial of the search, with the fresh seed."""
        trial, seed = _to_pair(params)
        return [*self.overrides_by_trial[trial], f"seed={seed}", "tracking.log_model=true"]

    def describe(self, number: int, params: Params) -> str:
        """Returns for example `trial 7, seed 43`."""
        trial, seed = _to_pair(params)
        return f"{trial_name(trial)}, seed {seed}"

    def is_baseline(self, number: int) -> bool:
        """Returns False: the baseline's role belongs to the search's first trial."""
        return False

    def run_name(self, number: int, params: Params) -> str:
        """Returns for example `model2 · trial 7 · seed 43`."""
        trial, seed = _to_pair(params)
        return f"{self.config.model.name} · {trial_name(trial)} · seed {seed}"


class ConfirmationStudy(Study):
    """The trainings of a confirmation; asks for those that its race lacks.

    What runs is pruned after its present epoch once the race can do without it.
    """

    plan: ConfirmationPlan

    def __init__(
        self,
        plan: ConfirmationPlan,
        settings: SweeperConfig,
        storage: BaseStorage,
        threads: int,
    ) -> None:
        """Creates the study, or continues it; see `Study`.

        Trainings that failed at an earlier start are repeated; those that diverged are not.
        """
        super().__init__(plan, settings, storage, threads, prune=False)
        self._repeated = {
            trial.number
            for trial in self.finished()
            if trial.user_attrs["state"] == TrialStatus.failed
        }
        self._race = -1, Race()  # the number of finished trainings, and their race

    def results(self) -> dict[int, dict[int, float | None]]:
        """Returns the metric by trial of the search and seed; None if it failed or diverged."""
        results: dict[int, dict[int, float | None]] = {}
        for trial in self.finished():
            if trial.state != TrialState.PRUNED and trial.number not in self._repeated:
                number, seed = _pair(trial)
                is_complete = trial.state == TrialState.COMPLETE
                value = objective_value(trial) if is_complete else None
                results.setdefault(number, {})[seed] = value
        return results

    def race(self) -> Race:
        """Returns the race as far as it is."""
        n_finished = len(self.finished())
        if self._race[0] != n_finished:
            race = hold_race(self.results(), self.plan.candidates, self.plan.rules)
            self._race = n_finished, race
        return self._race[1]

    def verdicts(self) -> dict[int, Verdict]:
        """Returns the verdict on each trial of the search that was confirmed, by its number."""
        results = self.results()
        rules = self.plan.rules
        if rules.fixed:
            numbers = sorted(results.keys() - {BASELINE_NUMBER})
            verdicts = {n: verdict_on_pairs(results, rules, n) for n in numbers}
        else:
            race = self.race()
            verdicts = {n: verdict_in_race(results, race, rules, n) for n in race.looks}
        return {number: verdict for number, verdict in verdicts.items() if verdict is not None}

    def counted_seeds(self, number: int) -> Sequence[int]:
        """Returns the seeds over which a trial of the search is compared with the baseline.

        Which further seeds idle workers have begun depends on their number.
        """
        if self.plan.rules.fixed:
            return self.plan.rules.seeds
        race = self.race()
        looks = race.looks.get(number)
        return race.seeds[: looks[-1].pairs] if looks else race.seeds

    def winner(self, best: int) -> int:
        """Returns the trial that did best against the baseline.

        Args:
            best: The number of the search's best trial, returned if nothing is known.
        """
        if self.plan.rules.fixed:
            return best_confirmed(self.verdicts(), best)
        return self.race().leader or best

    def is_finished(self) -> bool:
        """Returns whether the race lacks nothing."""
        return not self.race().missing

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Reports the value of an epoch; see `Study`."""
        trial = self._running[number].trial
        super().report(number, epoch, value)
        is_last = epoch >= self.plan.epochs(trial.params)
        return not is_last and _to_pair(trial.params) not in self.race().missing

    def _unstarted_trials(self, trials: list[FrozenTrial]) -> int:
        return len(self._pairs_to_start(trials))

    def _resumable(self, trials: list[FrozenTrial]) -> list[Trial]:
        missing = self.race().missing
        return [trial for trial in self._interrupted if _pair(trials[trial.number]) in missing]

    def _ask_new(self, trials: list[FrozenTrial]) -> Trial:
        number, seed = self._pairs_to_start(trials)[0]
        # A driver that died between the two calls has left one in the queue.
        if not any(trial.state == TrialState.WAITING for trial in trials):
            self.optuna_study.enqueue_trial({"trial": number, "seed": seed})
        return self.optuna_study.ask()

    def _pairs_to_start(self, trials: list[FrozenTrial]) -> list[tuple[int, int]]:
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        pairs = {_pair(trial) for trial in running}
        return [pair for pair in self.race().missing if pair not in pairs]


def plan_confirmation(study: Study, confirm: ConfirmConfig) -> ConfirmationPlan | None:
    """Plans the confirmation of a study whose search is over.

    Args:
        study: The search.
        confirm: How many candidates race, on how many seeds; these follow the search's own.

    Returns:
        The plan; None if the baseline is not complete or no trial beat it.
    """
    baseline = study.baseline()
    if baseline is None:
        return None
    ranked = study.ranked()
    numbers = [trial.number for trial in ranked]
    better = numbers[: numbers.index(baseline.number)]
    if not better:
        return None
    search = study.plan
    n_seeds = confirm.seeds or confirm.max_seeds
    seeds = [(search.config.seed + 1 + index) % (MAX_SEED + 1) for index in range(n_seeds)]
    return ConfirmationPlan(
        name=f"{search.name}-confirm",
        folder=search.folder / "confirm",
        config=search.config,
        fixed=search.fixed,
        space=SearchSpace(
            {
                "trial": IntDistribution(0, MAX_TRIAL_NUMBER),
                "seed": IntDistribution(0, MAX_SEED),
            }
        ),
        enqueued_trials=[],
        n_trials=None,
        fingerprint=search.fingerprint,
        data_sha256=search.data_sha256,
        initial_weights=search.initial_weights,
        data_copies=search.data_copies,
        max_parameters=None,
        candidates=_candidates(study, better, confirm),
        rules=RaceRules(seeds, confirm.seeds is not None, confirm.margin, study.settings.maximize),
        overrides_by_trial={
            trial.number: tuple(search.trial_overrides(trial.params)) for trial in ranked
        },
    )


def best_confirmed(verdicts: Mapping[int, Verdict], best: int) -> int:
    """Returns the trial that is better than the baseline over the most seeds.

    A study that was extended may have a new best trial whose seed was luckier: an earlier one
    that was confirmed stays the better choice.

    Args:
        verdicts: By number of the trial.
        best: The number of the search's best trial, returned if no verdict is `better`.

    Returns:
        The trial's number; among trials with equally many seeds, that of the largest difference.
    """
    better = {n: v for n, v in verdicts.items() if v.outcome is VerdictOutcome.better}
    return max(
        better,
        key=lambda number: (len(better[number].best), abs(better[number].difference)),
        default=best,
    )


def _candidates(study: Study, better: Sequence[int], confirm: ConfirmConfig) -> Sequence[int]:
    """The best of the trials that beat the baseline, and the winner of an earlier race."""
    if confirm.seeds is not None:
        return better[:1]
    winner = study.optuna_study.user_attrs.get(WINNER)
    earlier = [] if winner is None else [int(winner)]
    return list(dict.fromkeys([*better[: confirm.candidates], *earlier]))


def _pair(trial: FrozenTrial) -> tuple[int, int]:
    """A trial's trial of the search and its seed: Optuna has those of an enqueued one from ask on.

    Its params follow one by one, and the driver may die before.
    """
    return _to_pair({**trial.system_attrs.get("fixed_params", {}), **trial.params})


def _to_pair(params: Params) -> tuple[int, int]:
    return int(str(params["trial"])), int(str(params["seed"]))
