import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from svhn_sweep.sweep.selection.race import Race, RaceRules, VerdictOutcome, hold_race
from svhn_sweep.sweep.selection.repeated_intervals import (
    MAX_PAIRS,
    MIN_PAIRS,
    Interval,
    critical_value,
    repeated_interval,
    single_interval,
)

Values = Sequence[float | None]
BASELINE = [0.80, 0.81, 0.79, 0.80, 0.82, 0.80, 0.81, 0.79]


def rules(n: int = 8, *, margin: float = 0.005, maximize: bool = True) -> RaceRules:
    return RaceRules(range(n), fixed=False, margin=margin, maximize=maximize)


def plus(difference: float, spread: float = 0.001) -> list[float]:
    """The baseline's values and a difference that varies from seed to seed."""
    return [value + difference + spread * (-1) ** index for index, value in enumerate(BASELINE)]


def raced(*candidates: Values, baseline: Values = BASELINE, held: RaceRules | None = None) -> Race:
    """The race of candidates 1, 2, ... whose results are known as far as they are given."""
    results = {
        number: dict(enumerate(values)) for number, values in enumerate([baseline, *candidates])
    }
    return hold_race(results, range(1, len(candidates) + 1), held or rules())


@pytest.mark.parametrize(
    ("candidates", "outcome", "leader", "pairs", "left"),
    [
        ([plus(0.05)], "better", 1, 3, {}),
        ([plus(-0.05)], "worse", 1, 3, {}),
        ([plus(0.0, 0.0005)], "equivalent", 1, 4, {}),
        ([plus(0.004, 0.004)], "undecided", 1, 8, {}),
        ([plus(0.01, 0.02), plus(0.05)], "better", 2, 3, {}),
        ([plus(0.02), plus(0.05)], "better", 2, 3, {1: 3}),
        ([plus(0.0), plus(0.01, 0.02), plus(-0.05)], "undecided", 2, 8, {3: 5}),
    ],
)
def test_a_race_ends_as_soon_as_the_leader_is_decided(
    candidates: list[Values], outcome: str, leader: int, pairs: int, left: dict[int, int]
) -> None:
    race = raced(*candidates)
    assert (race.outcome, race.leader, len(race.seeds)) == (outcome, leader, pairs)
    assert race.left == left
    assert race.missing == []


def test_at_the_end_a_candidate_that_is_better_wins_against_a_leader_that_is_not() -> None:
    """The leader owes its mean to one seed; its interval is wide and contains 0."""
    lucky = [*plus(0.001, 0.0005)[:7], 0.95]
    race = raced(lucky, plus(0.004, 0.004), plus(0.003, 0.001))
    means = {number: looks[-1].difference for number, looks in race.looks.items()}
    assert max(means, key=means.__getitem__) == 1
    assert (race.active, race.leader, race.outcome) == ([3, 1, 2], 3, "better")


def test_lower_is_better_where_the_metric_is_minimized() -> None:
    race = raced(plus(0.05), plus(-0.05), held=rules(maximize=False))
    assert (race.leader, race.outcome) == (2, "better")


@pytest.mark.parametrize(
    ("n_results", "missing"),
    [
        ([0, 0, 0], [(0, 0), (1, 0), (2, 0), (0, 1)]),
        ([2, 2, 1], [(2, 1), (0, 2), (1, 2), (2, 2)]),
        ([1, 3, 3], [(0, 1), (0, 2), (0, 3), (1, 3)]),
    ],
)
def test_what_a_race_lacks_comes_seed_by_seed(
    n_results: list[int], missing: list[tuple[int, int]]
) -> None:
    values = [BASELINE, plus(0.004, 0.01), plus(0.003, 0.01)]
    baseline, *candidates = (known[:n] for known, n in zip(values, n_results, strict=True))
    race = raced(*candidates, baseline=baseline)
    assert race.outcome is None
    assert race.missing[:4] == missing


def test_a_race_in_progress_equals_the_beginning_of_the_whole_race() -> None:
    candidates = [plus(0.02, 0.004), plus(0.03, 0.02), plus(0.0, 0.004)]
    whole = raced(*candidates)
    for n in range(3, len(whole.seeds)):
        part = raced(*(values[:n] for values in candidates), baseline=BASELINE[:n])
        assert part.looks == {number: looks[: n - 2] for number, looks in whole.looks.items()}
        assert part.left == {number: at for number, at in whole.left.items() if at <= n}


def test_later_results_change_nothing_that_is_decided() -> None:
    decided = raced(plus(0.05), plus(0.02))
    early = raced(plus(0.05)[:3], plus(0.02)[:3], baseline=BASELINE[:3])
    assert early == decided


def test_a_candidate_whose_training_fails_leaves_the_race() -> None:
    race = raced([*plus(0.05)[:2], None], plus(0.04, 0.02))
    assert race.left == {1: 3}
    assert race.leader == 2


def test_a_race_that_all_have_left_is_over_without_an_outcome() -> None:
    race = raced([0.85, None])
    assert (race.leader, race.outcome, race.missing) == (None, None, [])


def test_a_seed_with_which_the_baseline_fails_does_not_count() -> None:
    race = raced(plus(0.05), baseline=[BASELINE[0], None, *BASELINE[2:]])
    assert (race.outcome, race.seeds) == ("better", [0, 2, 3])


def test_fixed_seeds_are_all_used_and_nobody_leaves() -> None:
    held = RaceRules(range(8), fixed=True, margin=0, maximize=True)
    candidates = [[0.85, None, *plus(0.05)[2:]]]
    race = raced(*candidates, held=held)
    assert (race.outcome, race.seeds, race.left) == ("better", [0, 2, 3, 4, 5, 6, 7], {})
    assert raced(*(values[:7] for values in candidates), held=held).outcome is None


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.001, 0.1, "better"),
        (-0.1, -0.001, "worse"),
        (-0.004, 0.004, "equivalent"),
        (0.001, 0.004, "better"),
        (-0.004, 0.006, "undecided"),
        (-0.006, 0.004, "undecided"),
        (-0.1, 0.1, "undecided"),
    ],
)
def test_the_outcome_is_what_the_interval_says(low: float, high: float, outcome: str) -> None:
    interval = Interval(2, (low + high) / 2, low, high)
    assert rules().outcome(interval) == outcome
    mirrored = Interval(2, -(low + high) / 2, -high, -low)
    assert rules(maximize=False).outcome(mirrored) == outcome


# the intervals


def test_a_single_interval_is_that_of_scipys_t_test() -> None:
    differences = [0.01, 0.03, -0.01, 0.02, 0.0]
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    interval = single_interval(differences)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_repeated_intervals_narrow_with_each_pair_and_are_wider_than_a_single_one() -> None:
    differences = [0.01 * (-1) ** index for index in range(16)]
    widths = [
        repeated_interval(differences[:n], 16).high - repeated_interval(differences[:n], 16).low
        for n in range(MIN_PAIRS, 17)
    ]
    assert all(later < earlier for earlier, later in pairwise(widths[::2]))
    assert repeated_interval(differences, 16).high > single_interval(differences).high


@pytest.mark.parametrize("max_pairs", [MIN_PAIRS, 8, 16, MAX_PAIRS])
def test_repeated_intervals_miss_the_truth_in_5_percent_of_all_races(max_pairs: int) -> None:
    """Checks the constants against a simulation that is independent of their script."""
    differences = np.random.default_rng(max_pairs).standard_normal((100_000, max_pairs))
    pairs = np.arange(1, max_pairs + 1)
    means = np.cumsum(differences, axis=1) / pairs
    missed = np.zeros(len(differences), dtype=bool)
    for n in range(MIN_PAIRS, max_pairs + 1):
        deviations = differences[:, :n].std(axis=1, ddof=1)
        half = critical_value(n, max_pairs) * deviations / np.sqrt(n)
        missed |= np.abs(means[:, n - 1]) > half
    assert missed.mean() == pytest.approx(0.05, abs=0.003)


def test_the_best_of_three_wins_more_often_than_on_one_seed() -> None:
    """0.5 and 1 point better than the baseline, whose seeds differ by 0.4 points; and a copy."""
    draw = random.Random(1)
    wins = first_wins = 0
    for _ in range(200):
        values = [
            [effect + draw.gauss(0, 0.004) for _ in range(16)] for effect in (0, 0.005, 0.01, 0)
        ]
        race = raced(*values[1:], baseline=values[0], held=rules(16))
        wins += race.leader == 2 and race.outcome is VerdictOutcome.better
        first_wins += max(range(1, 4), key=[drawn[0] for drawn in values].__getitem__) == 2
    assert wins > 185
    assert first_wins < 165
