"""Tests the comparison of configs against SciPy's t tests."""

import math

import pytest
from scipy import stats

from svhn_sweep.grid.comparison import compare

FIRST = {1: 0.80, 2: 0.82, 3: 0.81, 4: 0.83}


@pytest.mark.parametrize(
    ("other", "common_seeds", "outcome"),
    [
        ({1: 0.90, 2: 0.91, 3: 0.92, 4: 0.92}, 4, "better"),
        ({1: 0.70, 2: 0.71, 3: 0.72, 4: 0.72}, 4, "worse"),
        ({1: 0.801, 2: 0.82, 3: 0.811, 4: 0.829}, 4, "equivalent"),
        ({1: 0.85, 2: 0.80, 3: 0.85, 4: 0.80}, 4, "undecided"),
        ({1: 0.81, 2: 0.81, 3: 0.82, 4: 0.82}, 4, "undecided"),  # at most 1.9 points apart
        ({1: 0.80, 2: 0.82, 3: 0.81, 4: 0.83}, 4, "equivalent"),  # not a number apart
        ({4: 0.92, 5: 0.91, 1: 0.90}, 2, "better"),  # only the common seeds count
    ],
)
def test_a_verdict_is_that_of_the_paired_t_interval(
    other: dict[int, float], common_seeds: int, outcome: str
) -> None:
    _, row = compare({"first": FIRST, "other": other}, {})
    seeds = [seed for seed in FIRST if seed in other]
    assert (row.common_seeds, row.outcome) == (common_seeds, outcome)
    assert row.difference_interval is not None
    ends = (row.difference_interval.low, row.difference_interval.high)
    differences = [other[seed] - FIRST[seed] for seed in seeds]
    if len(set(differences)) > 1:
        expected = stats.ttest_rel([other[s] for s in seeds], [FIRST[s] for s in seeds])
        assert ends == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert row.difference == pytest.approx(sum(differences) / len(differences))


def test_means_deviations_and_intervals_are_those_of_all_seeds() -> None:
    (row,) = compare({"only": FIRST}, {})
    values = list(FIRST.values())
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert row.interval is not None
    assert (row.interval.low, row.interval.high) == pytest.approx(tuple(expected))
    assert row.seeds == 4
    assert row.mean == pytest.approx(0.815)
    assert row.deviation == pytest.approx(stats.tstd(values))
    assert (row.difference, row.outcome) == (None, None)


@pytest.mark.parametrize(
    ("first", "other", "difference"),
    [
        ({1: 0.5}, {1: 0.6}, 0.1),
        ({1: 0.5, 2: 0.5}, {3: 0.6, 4: 0.6}, None),
        ({}, {1: 0.6, 2: 0.6}, None),  # its runs have failed
        ({1: 0.5, 2: 0.5}, {}, None),
    ],
)
def test_fewer_than_two_common_seeds_give_no_verdict(
    first: dict[int, float], other: dict[int, float], difference: float | None
) -> None:
    _, row = compare({"first": first, "other": other}, {})
    assert row.outcome is None
    assert row.difference_interval is None
    assert row.difference == (None if difference is None else pytest.approx(difference))
    assert row.mean is None or math.isfinite(row.mean)


@pytest.mark.parametrize("diverged", ["first", "other"])
def test_a_config_that_diverged_has_no_verdict(diverged: str) -> None:
    other = {1: 0.90, 2: 0.91}
    first, row = compare({"first": FIRST, "other": other}, {diverged: 2})
    assert row.outcome is None
    assert (first.diverged, row.diverged) == ((2, 0) if diverged == "first" else (0, 2))
