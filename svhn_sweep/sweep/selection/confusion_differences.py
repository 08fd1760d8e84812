"""What the best config confuses less often than the baseline, and what more often."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from svhn_sweep.sweep.selection.champion import BASELINE, BEST, Candidate
from svhn_sweep.sweep.study.study import Study

NAMED = 3  # pairs of digits each way
MATRIX = Path("confusion_matrix") / "validation.json"

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Confusions:
    """Two confusion matrices on the same validation split.

    Attributes:
        baseline, best: counts, float64 [10, 10], row = true digit, column = predicted digit; means
            over runs.
        runs: how many each is the mean of.
    """

    baseline: Counts
    best: Counts
    runs: int

    @property
    def difference(self) -> Counts:
        """Best minus baseline."""
        return self.best - self.baseline

    @property
    def gain(self) -> Counts:
        """The same, positive where the best config is better: more on the diagonal, fewer beside
        it.
        """
        return np.where(np.eye(10, dtype=bool), self.difference, -self.difference)

    def pairs(self, sign: int) -> list[tuple[int, int]]:
        """The (true, predicted) pairs of different digits that changed most, for better (1) or
        for worse (-1).
        """
        gain = sign * np.where(np.eye(10, dtype=bool), 0, self.gain)
        order = np.argsort(-gain, axis=None, kind="stable")[:NAMED]
        found = [(int(place // 10), int(place % 10)) for place in order]
        return [pair for pair in found if gain[pair] > 0]

    def named(self) -> list[str]:
        """Those pairs in words: `fewer 6 for 5 (23 to 6)`, counts of images from baseline to
        best.
        """
        found = []
        baseline = self.baseline
        best = self.best
        for sign, word in ((1, "fewer"), (-1, "more")):
            pairs = [
                f"{true} for {predicted} "
                f"({_said(baseline[true, predicted])} to {_said(best[true, predicted])})"
                for true, predicted in self.pairs(sign)
            ]
            found += [f"{word} {', '.join(pairs)}"] if pairs else []
        return found

    def sentence(self) -> str:
        """For the study's page; empty if nothing changed."""
        mean = f", in the mean of {self.runs} runs" if self.runs > 1 else ""
        named = "; ".join(self.named())
        return (
            f"digits taken for others on validation, from baseline to best config{mean}: {named}"
            if named
            else ""
        )


def confusions(study: Study, candidate: Candidate | None) -> Confusions | None:
    """Of the confirmation's runs if there are some, else of the best and the baseline's trial.

    None if nothing beat the baseline, or a matrix cannot be read.
    """
    best = study.best()
    baseline = study.baseline()
    if best is None or baseline is None or best.number == baseline.number:
        return None
    runs = {BASELINE: [study.folder(baseline.number)], BEST: [study.folder(best.number)]}
    if candidate is not None and candidate.verdict is not None:
        arms = {arm: candidate.runs.get(arm, {}) for arm in runs}
        if pairs := sorted(arms[BASELINE].keys() & arms[BEST].keys()):
            runs = {arm: [by_seed[seed] for seed in pairs] for arm, by_seed in arms.items()}
    try:
        return Confusions(_mean(runs[BASELINE]), _mean(runs[BEST]), len(runs[BEST]))
    except (OSError, ValueError, KeyError):  # tidied away, or cut short with the power
        return None


def _mean(runs: Sequence[Path]) -> Counts:
    counts = np.array(
        [json.loads((run / MATRIX).read_text())["counts"] for run in runs], dtype=np.float64
    )
    mean: Counts = counts.mean(axis=0)
    return mean


def _said(count: float) -> str:
    return f"{count:.1f}".removesuffix(".0")
