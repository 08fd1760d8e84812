"""Computes the constants of the repeated confidence intervals in svhn_sweep's confirmation.

    python benchmarks/race_factors.py [REPETITIONS]

For each number m of the most pairs it prints the constant c such that, under the null hypothesis,
the interval mean +- t(p_k, k - 1) s / sqrt(k) with p_k = 2 Phi(-c (m / k)^(1/4)) excludes the true
difference after any of the pairs k = 3..m in 5 % of all sequences of normal differences. The power
1/4 is Wang and Tsiatis' shape parameter 0.25 (Biometrics 43, 1987), between Pocock's constant
levels and O'Brien and Fleming's; the intervals are Jennison and Turnbull's (Group Sequential
Methods, 2000, chapters 3, 9 and 11). The constants are in `repeated_intervals.py`.
"""

import sys

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from svhn_sweep.sweep.selection.repeated_intervals import ERROR, MAX_PAIRS, MIN_PAIRS, SHAPE

REPETITIONS = 1_000_000
CHUNK = 50_000
SEED = 20261128


def scores(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the normal score of Student's t after each pair from the third, [N, M - 2].

    Args:
        differences: Of pairs whose true difference is 0, [N, M].
    """
    k = np.arange(1, differences.shape[1] + 1)
    means = np.cumsum(differences, axis=1) / k
    squares = np.cumsum(differences**2, axis=1)
    kept = slice(MIN_PAIRS - 1, None)
    variances = (squares - k * means**2)[:, kept] / (k[kept] - 1)
    t = np.abs(means[:, kept]) / np.sqrt(variances / k[kept])
    normal: NDArray[np.float64] = stats.norm.isf(stats.t.sf(t, k[kept] - 1))
    return normal


def constants(repetitions: int, seed: int = SEED) -> dict[int, float]:
    """Returns the constant for each number of the most pairs."""
    random = np.random.default_rng(seed)
    weights = np.arange(MIN_PAIRS, MAX_PAIRS + 1) ** SHAPE
    largest = []
    for _ in range(max(1, repetitions // CHUNK)):
        weighted = scores(random.standard_normal((CHUNK, MAX_PAIRS))) * weights
        largest.append(np.maximum.accumulate(weighted, axis=1).astype(np.float32))
    quantiles = np.quantile(np.concatenate(largest), 1 - ERROR, axis=0)
    pairs = np.arange(MIN_PAIRS, MAX_PAIRS + 1)
    values = quantiles / pairs**SHAPE
    return dict(zip(pairs.tolist(), values.round(3).tolist(), strict=True))


if __name__ == "__main__":
    print(constants(int(sys.argv[1]) if len(sys.argv) > 1 else REPETITIONS))
