"""Confidence intervals of a mean difference that hold although one looks after each pair.

They are Jennison and Turnbull's repeated confidence intervals (Group Sequential Methods, 2000,
chapters 3, 9 and 11) with Wang and Tsiatis' boundary of shape 0.25 (Biometrics 43, 1987) and
Student's t in place of the normal distribution.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

ERROR = 0.05
MIN_PAIRS = 3  # before them the spread of the differences is hardly known
MAX_PAIRS = 32
SHAPE = 0.25

# By the number of the most pairs; benchmarks/race_factors.py computes them.
# fmt: off
CONSTANTS = {
    3: 1.959, 4: 2.103, 5: 2.166, 6: 2.201, 7: 2.223, 8: 2.238,
    9: 2.249, 10: 2.258, 11: 2.265, 12: 2.271, 13: 2.277, 14: 2.280,
    15: 2.283, 16: 2.286, 17: 2.289, 18: 2.292, 19: 2.294, 20: 2.297,
    21: 2.299, 22: 2.300, 23: 2.301, 24: 2.303, 25: 2.303, 26: 2.305,
    27: 2.306, 28: 2.306, 29: 2.307, 30: 2.307, 31: 2.308, 32: 2.308,
}
# fmt: on


@dataclass(frozen=True)
class Interval:
    """The mean of some differences and its 95 % confidence interval.

    Attributes:
        pairs: The number of differences.
        difference: Their mean.
        low: The lower end.
        high: The upper end.
    """

    pairs: int
    difference: float
    low: float
    high: float


def repeated_interval(differences: Sequence[float], max_pairs: int) -> Interval:
    """Returns the interval after so many pairs of at most `max_pairs`.

    All intervals after the third to the last pair contain the true difference with a probability of
    95 %, if the differences are normally distributed.

    Args:
        differences: Of at least `MIN_PAIRS` pairs.
        max_pairs: From `MIN_PAIRS` to `MAX_PAIRS`.
    """
    return _interval(differences, critical_value(len(differences), max_pairs))


def single_interval(differences: Sequence[float]) -> Interval:
    """Returns Student's interval of at least two differences, for one look at the end."""
    return _interval(differences, float(stats.t.isf(ERROR / 2, len(differences) - 1)))


def critical_value(pairs: int, max_pairs: int) -> float:
    """Returns the value that Student's t must exceed after so many pairs of at most `max_pairs`."""
    error = 2 * stats.norm.sf(CONSTANTS[max_pairs] / (pairs / max_pairs) ** SHAPE)
    return float(stats.t.isf(error / 2, pairs - 1))


def _interval(differences: Sequence[float], critical: float) -> Interval:
    """mean(d) +- critical s / sqrt(n) for the sample standard deviation s of n differences."""
    n = len(differences)
    mean = float(np.mean(differences))
    half = critical * float(np.std(differences, ddof=1)) / n**0.5
    return Interval(n, mean, mean - half, mean + half)
