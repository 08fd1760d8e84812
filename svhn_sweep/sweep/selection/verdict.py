"""The verdict on a config: how far it is from the baseline, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from svhn_sweep.sweep.plan.plan import BASELINE_NUMBER
from svhn_sweep.sweep.selection.race import (
    Race,
    RaceRules,
    Results,
    VerdictOutcome,
    completed_values,
    differences,
)
from svhn_sweep.sweep.selection.repeated_intervals import Interval


@dataclass(frozen=True)
class Verdict:
    """Compares a config with the baseline over pairs of runs, one pair for each seed.

    Attributes:
        baseline: The baseline's metric by seed.
        best: The other config's metric, in the same order of seeds.
        low: Lower end of the 95 % interval of the mean difference, best minus baseline.
        high: Its upper end.
        outcome: What the interval says.
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


def verdict_in_race(results: Results, race: Race, rules: RaceRules, number: int) -> Verdict | None:
    """Returns the verdict on a candidate after its last pair in a race; None before the third."""
    if not race.looks[number]:
        return None
    last = race.looks[number][-1]
    return _verdict(results, race.seeds[: last.pairs], rules, number, last)


def verdict_on_pairs(results: Results, rules: RaceRules, number: int) -> Verdict | None:
    """Returns the verdict on a config over those seeds with which it and the baseline are complete.

    Args:
        results: The results.
        rules: Rules of fixed seeds. Others, of an earlier race for example, do not count: the
            interval is one for a number of seeds that was chosen before.
        number: The trial with the config.

    Returns:
        The verdict; None if there are fewer than two pairs.
    """
    baseline = results.get(BASELINE_NUMBER, {})
    best = results[number]
    seeds = [seed for seed in rules.seeds if None not in (baseline.get(seed), best.get(seed))]
    interval = rules.interval(differences(results, seeds, number, BASELINE_NUMBER))
    return None if interval is None else _verdict(results, seeds, rules, number, interval)


def _verdict(
    results: Results, seeds: Sequence[int], rules: RaceRules, number: int, interval: Interval
) -> Verdict:
    return Verdict(
        tuple(completed_values(results, seeds, BASELINE_NUMBER)),
        tuple(completed_values(results, seeds, number)),
        interval.low,
        interval.high,
        rules.outcome(interval),
    )
