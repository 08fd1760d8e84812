"""Is the best config really better than its baseline? Both are trained again, on the same fresh
seeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
from optuna.distributions import IntDistribution
from optuna.trial import TrialState
from scipy import stats

from svhn_sweep.config.schema import MAX_SEED
from svhn_sweep.sweep.plan.plan import Params, Plan
from svhn_sweep.sweep.study.study import Study, result

CONFIDENCE = 0.95
MAX_NUMBER = 10_000_000  # of a trial


@dataclass(frozen=True)
class ConfirmationPlan(Plan):
    """A study over trials of the search and fresh seeds, all of it queued.

    Attributes:
        arms: what is special about each complete trial of the search, as overrides, by its number.
    """

    arms: Mapping[int, tuple[str, ...]]

    role = "confirmation"

    @property
    def parent_run_dir(self) -> Path:
        return self.folder.parent

    def spelt(self, params: Params) -> list[str]:
        return [
            *self.arms[int(str(params["trial"]))],
            f"seed={params['seed']}",
            "tracking.log_model=true",
        ]

    def describe(self, number: int, params: Params) -> str:
        return f"{_name(params)}, seed {params['seed']}"

    def is_baseline(self, number: int) -> bool:
        return False

    def title(self, number: int, params: Params) -> str:
        return f"{_name(params)} seed {params['seed']}"


@dataclass(frozen=True)
class Verdict:
    """What the pairs say.

    Attributes:
        baseline, best: the metric of each arm by seed, in the same order.
        low, high: of the 95 % t interval of the mean difference, best minus baseline.
        word: better, worse or indistinguishable.
    """

    baseline: tuple[float, ...]
    best: tuple[float, ...]
    low: float
    high: float
    word: str

    @property
    def difference(self) -> float:
        """The mean of best minus baseline."""
        return mean(self.best) - mean(self.baseline)


def plan(study: Study, seeds: int) -> ConfirmationPlan | None:
    """Of a study whose search is over; None if nothing beat the baseline, or there is no
    baseline to beat.
    """
    best = study.best()
    baseline = study.baseline()
    if best is None or baseline is None or best.number == baseline.number:
        return None
    searched = study.plan
    fresh = [(searched.config.seed + 1 + index) % (MAX_SEED + 1) for index in range(seeds)]
    complete = [trial for trial in study.trials() if trial.state == TrialState.COMPLETE]
    return ConfirmationPlan(
        name=f"{searched.name}-confirm",
        folder=searched.folder / "confirm",
        config=searched.config,
        fixed=searched.fixed,
        space={"trial": IntDistribution(0, MAX_NUMBER), "seed": IntDistribution(0, MAX_SEED)},
        enqueued_trials=[
            {"trial": number, "seed": seed} for seed in fresh for number in (0, best.number)
        ],
        n_trials=None,
        fingerprint=searched.fingerprint,
        data_sha256=searched.data_sha256,
        arms={trial.number: tuple(searched.spelt(trial.params)) for trial in complete},
    )


def verdict(confirmation: Study, best: int) -> Verdict | None:
    """On trial number `best`, over the seeds with which it and the baseline are complete; None
    if under two.
    """
    values: dict[int, dict[int, float]] = {0: {}, best: {}}
    for trial in confirmation.trials():
        if trial.state == TrialState.COMPLETE and trial.params["trial"] in values:
            values[trial.params["trial"]][trial.params["seed"]] = result(trial)
    seeds = sorted(values[0].keys() & values[best].keys())
    if len(seeds) < 2:
        return None
    pairs = [tuple(values[number][seed] for seed in seeds) for number in (0, best)]
    return compare(*pairs, maximize=confirmation.settings.maximize)


def verdicts(confirmation: Study) -> dict[int, Verdict]:
    """On each trial that was ever confirmed."""
    numbers = sorted({int(trial.params["trial"]) for trial in confirmation.finished()} - {0})
    found = {number: verdict(confirmation, number) for number in numbers}
    return {number: each for number, each in found.items() if each is not None}


def proven(verdicts: Mapping[int, Verdict], best: int) -> int:
    """The trial that is better than the baseline over the most seeds, of several by most; if there
    is none, `best`.

    A study that was extended may have a new best trial, which had more luck with its seed than one
    that proved itself.
    """
    better = {number: each for number, each in verdicts.items() if each.word == "better"}
    return max(
        better,
        key=lambda number: (len(better[number].best), abs(better[number].difference)),
        default=best,
    )


def compare(baseline: tuple[float, ...], best: tuple[float, ...], *, maximize: bool) -> Verdict:
    """The paired t interval: mean(d) -+ t(0.975, n - 1) s / sqrt(n), of n >= 2 differences d
    with deviation s.
    """
    differences = np.subtract(best, baseline)
    error = float(differences.std(ddof=1)) / len(differences) ** 0.5
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)) * error
    low = float(differences.mean()) - half
    high = float(differences.mean()) + half
    gain = (low, high) if maximize else (-high, -low)
    word = "better" if gain[0] > 0 else "worse" if gain[1] < 0 else "indistinguishable"
    return Verdict(baseline, best, low, high, word)


def _name(params: Params) -> str:
    return "baseline" if params["trial"] == 0 else f"trial {params['trial']}"
