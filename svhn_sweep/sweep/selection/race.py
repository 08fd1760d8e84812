"""Races the best configs of a search against each other and the baseline, over fresh seeds.

The race is a pure function of the results so far. It goes from seed to seed in their order,
whatever order the trainings end in, so a race that is continued equals one that never stopped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import mean

from svhn_sweep.sweep.plan.plan import BASELINE_NUMBER
from svhn_sweep.sweep.selection.repeated_intervals import (
    MIN_PAIRS,
    Interval,
    repeated_interval,
    single_interval,
)

# The metric of each training by trial of the search and seed; None if it failed or diverged.
Results = Mapping[int, Mapping[int, float | None]]


class VerdictOutcome(StrEnum):
    """What the interval of a difference to the baseline says.

    `better` and `worse`: it excludes 0. `equivalent`: it lies within the margin around 0.
    `undecided`: neither, with all seeds used.
    """

    better = "better"
    worse = "worse"
    equivalent = "equivalent"
    undecided = "undecided"


def outcome_of(interval: Interval, margin: float, *, maximize: bool) -> VerdictOutcome:
    """Returns what an interval of candidate minus baseline says.

    Args:
        interval: Of the difference of the metric.
        margin: The largest difference that counts as none.
        maximize: Whether a higher metric is better.
    """
    sign = 1 if maximize else -1
    low, high = sorted((sign * interval.low, sign * interval.high))
    if low > 0:
        return VerdictOutcome.better
    if high < 0:
        return VerdictOutcome.worse
    if -margin < low and high < margin:
        return VerdictOutcome.equivalent
    return VerdictOutcome.undecided


@dataclass(frozen=True)
class RaceRules:
    """The rules of a race.

    Attributes:
        seeds: The fresh seeds in their order; at least `MIN_PAIRS`, or two if they are fixed.
        fixed: Whether all seeds are used and looked at once, instead of after each.
        margin: The largest difference of the metric that counts as none.
        maximize: Whether a higher metric is better.
    """

    seeds: Sequence[int]
    fixed: bool
    margin: float
    maximize: bool

    def interval(self, differences: Sequence[float]) -> Interval | None:
        """Returns the interval after these pairs; None where the rules do not look."""
        if self.fixed:
            return single_interval(differences) if len(differences) > 1 else None
        if len(differences) < MIN_PAIRS:
            return None
        return repeated_interval(differences, len(self.seeds))

    def outcome(self, interval: Interval) -> VerdictOutcome:
        """Returns what an interval of candidate minus baseline says."""
        return outcome_of(interval, self.margin, maximize=self.maximize)


@dataclass
class Race:
    """How far a race is.

    Attributes:
        seeds: The seeds that count so far: those for which the baseline and all candidates that
            were in the race then have a result.
        active: The candidates in the race, the leader first, then by their means.
        left: After how many pairs each other candidate left.
        looks: The interval of each candidate minus the baseline after each pair, as far as there
            is one.
        outcome: Of the leader against the baseline; None while the race goes on, or if every
            candidate left because its training failed.
        missing: The trainings that the race lacks, as pairs of a trial and a seed, the next first;
            empty if it is over.
    """

    seeds: list[int] = field(default_factory=list)
    active: list[int] = field(default_factory=list)
    left: dict[int, int] = field(default_factory=dict)
    looks: dict[int, list[Interval]] = field(default_factory=dict)
    outcome: VerdictOutcome | None = None
    missing: list[tuple[int, int]] = field(default_factory=list)

    @property
    def leader(self) -> int | None:
        """The candidate that the race is about so far; None if all have left.

        It has the best mean over the seeds so far. At the end it is one that is better than the
        baseline, if there is any: of these, the one with the best mean.
        """
        return self.active[0] if self.active else None


def hold_race(results: Results, candidates: Sequence[int], rules: RaceRules) -> Race:
    """Holds a race as far as the results go.

    A candidate leaves the race when its interval against the leader is on the worse side of 0, or
    when its training fails. A seed for which the baseline's training failed does not count. The
    race is over once the leader's outcome against the baseline is decided, or the seeds are used.
    If it is not better then, but others are, the best of them becomes the leader: the mean of the
    other may be due to few lucky seeds. Where the seeds are fixed nobody leaves; a seed counts if
    no training with it failed.

    Args:
        results: The results so far.
        candidates: The trials that compete, the best of the search first.
        rules: The rules.
    """
    race = Race(active=list(candidates), looks={number: [] for number in candidates})
    for index, seed in enumerate(rules.seeds):
        racing = [BASELINE_NUMBER, *sorted(race.active)]
        if any(seed not in results.get(number, {}) for number in racing):
            race.missing = [
                (number, later)
                for later in rules.seeds[index:]
                for number in racing
                if later not in results.get(number, {})
            ]
            return race
        _count_seed(race, seed, results, rules, is_last=index == len(rules.seeds) - 1)
        if race.outcome is not None or not race.active:
            return race
    return race


def _count_seed(
    race: Race, seed: int, results: Results, rules: RaceRules, *, is_last: bool
) -> None:
    """Adds a seed to the race: who leads, who leaves, what is decided."""
    failed = [number for number in race.active if results[number][seed] is None]
    if results[BASELINE_NUMBER][seed] is not None and not (rules.fixed and failed):
        race.seeds.append(seed)
        for number in failed:
            _leave(race, number)
        _look(race, results, rules)
    if rules.fixed and not is_last:
        return
    leader = race.leader
    if leader is None or not race.looks[leader]:
        return
    for number in race.active[1:]:
        against_leader = rules.interval(differences(results, race.seeds, number, leader))
        if against_leader and rules.outcome(against_leader) is VerdictOutcome.worse:
            _leave(race, number)
    outcomes = {number: rules.outcome(race.looks[number][-1]) for number in race.active}
    if outcomes[leader] is not VerdictOutcome.undecided or is_last:
        race.active.sort(key=lambda number: outcomes[number] is not VerdictOutcome.better)
        race.outcome = outcomes[race.active[0]]


def _look(race: Race, results: Results, rules: RaceRules) -> None:
    """Sorts the candidates by their means, and adds an interval for each."""

    def mean_result(number: int) -> float:
        return mean(completed_values(results, race.seeds, number))

    race.active.sort(key=mean_result, reverse=rules.maximize)
    for number in race.active:
        interval = rules.interval(differences(results, race.seeds, number, BASELINE_NUMBER))
        if interval is not None:
            race.looks[number].append(interval)


def _leave(race: Race, number: int) -> None:
    race.active.remove(number)
    race.left[number] = len(race.seeds)


def differences(results: Results, seeds: Sequence[int], number: int, other: int) -> list[float]:
    """Returns a trial's metric minus another's on seeds with which both are complete."""
    values = completed_values(results, seeds, number)
    pairs = zip(values, completed_values(results, seeds, other), strict=True)
    return [first - second for first, second in pairs]


def completed_values(results: Results, seeds: Sequence[int], number: int) -> list[float]:
    """Returns a trial's metric on each of these seeds with which it is complete."""
    values = [results[number][seed] for seed in seeds]
    return [value for value in values if value is not None]
