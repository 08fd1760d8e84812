"""Confirms a study's best config: trains it and the baseline on the same fresh seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Literal

import numpy as np
from optuna.distributions import IntDistribution
from optuna.trial import TrialState
from scipy import stats

from svhn_sweep.config.schema import MAX_SEED
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.plan.search_space import Params, SearchSpace
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.study.trial_values import objective_value

CONFIDENCE = 0.95
MAX_TRIAL_NUMBER = 10_000_000

VerdictOutcome = Literal["better", "worse", "indistinguishable"]


@dataclass(frozen=True)
class ConfirmationPlan(Plan):
    """Plans a study whose two parameters are a trial of the search and a seed, all enqueued.

    Attributes:
        overrides_by_trial: What distinguishes each complete trial of the search, as overrides, by
            its number.
    """

    overrides_by_trial: Mapping[int, tuple[str, ...]]

    role = "confirmation"

    @property
    def parent_run_dir(self) -> Path:
        """The folder of the search's run, in which MLflow nests these trials too."""
        return self.folder.parent

    def trial_overrides(self, params: Params) -> list[str]:
        """Returns the overrides of the trial of the search, with the fresh seed."""
        return [
            *self.overrides_by_trial[int(str(params["trial"]))],
            f"seed={params['seed']}",
            "tracking.log_model=true",
        ]

    def describe(self, number: int, params: Params) -> str:
        """Returns for example `trial 7, seed 43`."""
        return f"{_config_name(params)}, seed {params['seed']}"

    def is_baseline(self, number: int) -> bool:
        """Returns False: the baseline's role belongs to the search's first trial."""
        return False

    def run_name(self, number: int, params: Params) -> str:
        """Returns for example `model2 · trial 7 · seed 43`."""
        return f"{self.config.model.name} · {_config_name(params)} · seed {params['seed']}"


@dataclass(frozen=True)
class Verdict:
    """Compares a config with the baseline over pairs of runs, one pair for each seed.

    Attributes:
        baseline: The baseline's metric by seed.
        best: The other config's metric, in the same order of seeds.
        low: Lower end of the 95 % t interval of the mean difference, best minus baseline.
        high: Its upper end.
        outcome: `better` or `worse` if the interval excludes zero, else `indistinguishable`.
    """

    baseline: tuple[float, ...]
    best: tuple[float, ...]
    low: float
    high: float
    outcome: VerdictOutcome

    @property
    def difference(self) -> float:
        """The mean of best minus baseline."""
        return mean(self.best) - mean(self.baseline)


def plan_confirmation(study: Study, seeds: int) -> ConfirmationPlan | None:
    """Plans the confirmation of a study whose search is over.

    Args:
        study: The search.
        seeds: How many seeds both configs are trained on; they follow the search's own.

    Returns:
        The plan; None if the baseline is not complete or no trial beat it.
    """
    best = study.best()
    baseline = study.baseline()
    if best is None or baseline is None or best.number == baseline.number:
        return None
    search = study.plan
    fresh = [(search.config.seed + 1 + index) % (MAX_SEED + 1) for index in range(seeds)]
    complete = [trial for trial in study.trials() if trial.state == TrialState.COMPLETE]
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
        enqueued_trials=[
            {"trial": number, "seed": seed} for seed in fresh for number in (0, best.number)
        ],
        n_trials=None,
        fingerprint=search.fingerprint,
        data_sha256=search.data_sha256,
        max_parameters=None,
        overrides_by_trial={
            trial.number: tuple(search.trial_overrides(trial.params)) for trial in complete
        },
    )


def verdict_on_trial(confirmation: Study, number: int) -> Verdict | None:
    """Compares a trial of the search with the baseline.

    Args:
        confirmation: The confirmation's study.
        number: The trial's number in the search.

    Returns:
        The verdict over the seeds for which both configs are complete; None if these are fewer
        than two.
    """
    values: dict[int, dict[int, float]] = {0: {}, number: {}}
    for trial in confirmation.trials():
        if trial.state == TrialState.COMPLETE and trial.params["trial"] in values:
            values[trial.params["trial"]][trial.params["seed"]] = objective_value(trial)
    seeds = sorted(values[0].keys() & values[number].keys())
    if len(seeds) < 2:
        return None
    baseline = tuple(values[0][seed] for seed in seeds)
    best = tuple(values[number][seed] for seed in seeds)
    return compare(baseline, best, maximize=confirmation.settings.maximize)


def verdicts_by_trial(confirmation: Study) -> dict[int, Verdict]:
    """Returns the verdict on each trial of the search that was ever confirmed, by its number."""
    numbers = sorted({int(trial.params["trial"]) for trial in confirmation.finished()} - {0})
    verdicts = {number: verdict_on_trial(confirmation, number) for number in numbers}
    return {number: verdict for number, verdict in verdicts.items() if verdict is not None}


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
    better = {number: v for number, v in verdicts.items() if v.outcome == "better"}
    return max(
        better,
        key=lambda number: (len(better[number].best), abs(better[number].difference)),
        default=best,
    )


def compare(baseline: tuple[float, ...], best: tuple[float, ...], *, maximize: bool) -> Verdict:
    """Computes the paired t interval of best minus baseline.

    The interval is mean(d) +- t(0.975, n - 1) s / sqrt(n) for n differences d with sample
    standard deviation s.

    Args:
        baseline: The baseline's metric for each of at least two seeds.
        best: The other config's metric for the same seeds, in the same order.
        maximize: Whether larger values are better.

    Returns:
        The verdict.
    """
    differences = np.subtract(best, baseline)
    error = float(differences.std(ddof=1)) / len(differences) ** 0.5
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)) * error
    low = float(differences.mean()) - half
    high = float(differences.mean()) + half
    return Verdict(baseline, best, low, high, _outcome(low, high, maximize))


def _outcome(low: float, high: float, maximize: bool) -> VerdictOutcome:
    least, most = (low, high) if maximize else (-high, -low)
    if least > 0:
        return "better"
    return "worse" if most < 0 else "indistinguishable"


def _config_name(params: Params) -> str:
    return "baseline" if params["trial"] == 0 else f"trial {params['trial']}"
