"""Is the best config really better than its baseline? Both are trained again, on the same fresh seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean

import numpy as np
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState
from scipy import stats

from svhn_sweep.config import MAX_SEED
from svhn_sweep.sweep.plan import Params, Plan
from svhn_sweep.sweep.study import Study, result

BASELINE, BEST = "baseline", "best"  # the arms
CONFIDENCE = 0.95


@dataclass(frozen=True)
class ConfirmationPlan(Plan):
    """A study over arm and seed, all of it queued.

    Attributes:
        arms: the overrides of each.
    """

    arms: Mapping[str, tuple[str, ...]]

    role = "confirmation"
    parent = "../.."

    def spelt(self, params: Params) -> list[str]:
        return [*self.arms[str(params["arm"])], f"seed={params['seed']}", "tracking.log_model=true"]

    def describe(self, number: int, params: Params) -> str:
        return f"{params['arm']}, seed {params['seed']}"

    def title(self, number: int, params: Params) -> str:
        return f"{params['arm']} seed {params['seed']}"


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
    """Of a study whose search is over; None if nothing beat the baseline, or there is no baseline to beat."""
    best, baseline = study.best(), study.baseline()
    if best is None or baseline is None or best.number == baseline.number:
        return None
    searched = study.plan
    fresh = [(searched.config.seed + 1 + index) % (MAX_SEED + 1) for index in range(seeds)]
    name = f"{searched.name}-confirm-{best.number}"
    arms = {BASELINE: baseline, BEST: best}
    return ConfirmationPlan(
        name=name,
        folder=searched.folder / f"confirm-{best.number}",
        config=searched.config,
        fixed=searched.fixed,
        space={"arm": CategoricalDistribution((BASELINE, BEST)), "seed": IntDistribution(0, MAX_SEED)},
        queue=[{"arm": arm, "seed": seed} for seed in fresh for arm in (BASELINE, BEST)],
        n_trials=2 * seeds,
        fingerprint=f"{searched.fingerprint}-{best.number}",
        data_sha256=searched.data_sha256,
        arms={arm: tuple(searched.spelt(trial.params)) for arm, trial in arms.items()},
    )


def verdict(confirmation: Study) -> Verdict | None:
    """Over the seeds for which both arms are complete; None if they are fewer than two."""
    values: dict[str, dict[int, float]] = {BASELINE: {}, BEST: {}}
    for trial in confirmation.trials():
        if trial.state == TrialState.COMPLETE:
            values[trial.params["arm"]][trial.params["seed"]] = result(trial)
    seeds = sorted(values[BASELINE].keys() & values[BEST].keys())
    if len(seeds) < 2:
        return None
    baseline = tuple(values[BASELINE][seed] for seed in seeds)
    best = tuple(values[BEST][seed] for seed in seeds)
    return compare(baseline, best, maximize=confirmation.settings.direction == "maximize")


def compare(baseline: tuple[float, ...], best: tuple[float, ...], *, maximize: bool) -> Verdict:
    """The paired t interval: mean(d) -+ t(0.975, n - 1) s / sqrt(n), of n >= 2 differences d with deviation s."""
    differences = np.subtract(best, baseline)
    error = float(differences.std(ddof=1)) / len(differences) ** 0.5
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)) * error
    low, high = float(differences.mean()) - half, float(differences.mean()) + half
    gain = (low, high) if maximize else (-high, -low)
    word = "better" if gain[0] > 0 else "worse" if gain[1] < 0 else "indistinguishable"
    return Verdict(baseline, best, low, high, word)
