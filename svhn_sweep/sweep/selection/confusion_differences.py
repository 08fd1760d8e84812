"""Compares which digits the best config and the baseline mistake for which."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from svhn_sweep.sweep.selection.champion import BASELINE, BEST, Candidate
from svhn_sweep.sweep.study.study import Study

MAX_NAMED_PAIRS = 3  # of digits, in each direction
MATRIX = Path("confusion_matrix") / "validation.json"

Counts = NDArray[np.float64]
DIAGONAL = np.eye(10, dtype=bool)


@dataclass(frozen=True)
class ConfusionMatrices:
    """Confusion matrices of the baseline and the best config on the same validation split.

    Attributes:
        baseline: Counts of images, float64 [10, 10], row = true digit, column = predicted digit;
            the mean over the runs.
        best: The same of the best config.
        runs: How many runs each matrix is the mean of.
    """

    baseline: Counts
    best: Counts
    runs: int

    @property
    def difference(self) -> Counts:
        """Best minus baseline, float64 [10, 10]."""
        return self.best - self.baseline

    @property
    def gain(self) -> Counts:
        """The difference with its sign changed off the diagonal: positive means better."""
        return np.where(DIAGONAL, self.difference, -self.difference)

    def changed_pairs(self, sign: int) -> list[tuple[int, int]]:
        """Finds the pairs of different digits whose counts changed most.

        Args:
            sign: 1 for pairs that the best config confuses less often, -1 for more often.

        Returns:
            At most `MAX_NAMED_PAIRS` pairs (true digit, predicted digit), largest change first.
        """
        gain = sign * np.where(DIAGONAL, 0, self.gain)
        order = np.argsort(-gain, axis=None, kind="stable")[:MAX_NAMED_PAIRS]
        pairs = [(int(index // 10), int(index % 10)) for index in order]
        return [pair for pair in pairs if gain[pair] > 0]

    def format_changes(self) -> list[str]:
        """Formats the changed pairs with their counts, from baseline to best.

        Returns:
            At most two texts, as in `fewer 6 for 5 (23 to 6), 9 for 4 (8 to 3)`.
        """
        return self._format_changes("", "{baseline} to {best}")

    def sentence(self) -> str:
        """Returns the changes as a sentence for the study's report; empty if nothing changed."""
        changes = self._format_changes("images of ", "{best} instead of {baseline}")
        if not changes:
            return ""
        mean = f"; means of {self.runs} runs" if self.runs > 1 else ""
        return (
            "on validation, compared with the baseline, the best config takes "
            f"{' and '.join(changes)}{mean}"
        )

    def _format_changes(self, noun: str, counts: str) -> list[str]:
        """Formats the changed pairs; `counts` is a format string of the two counts of a pair."""
        changes = []
        for sign, change in ((1, "fewer"), (-1, "more")):
            pairs = [self._format_pair(*pair, counts) for pair in self.changed_pairs(sign)]
            if pairs:
                changes.append(f"{change} {noun}{', '.join(pairs)}")
        return changes

    def _format_pair(self, true: int, predicted: int, counts: str) -> str:
        baseline = _format_count(self.baseline[true, predicted])
        best = _format_count(self.best[true, predicted])
        return f"{true} for {predicted} ({counts.format(baseline=baseline, best=best)})"


def load_confusion_matrices(study: Study, candidate: Candidate | None) -> ConfusionMatrices | None:
    """Loads the confusion matrices of a study's best config and its baseline.

    Args:
        study: The search.
        candidate: If its config is confirmed, the matrices are means over the seeds that both
            configs have a model of; else they are those of the search's two trials.

    Returns:
        The matrices; None if nothing beat the baseline or a matrix cannot be read.
    """
    best = study.best()
    baseline = study.baseline()
    if best is None or baseline is None or best.number == baseline.number:
        return None
    runs = _paired_runs(candidate) or {
        BASELINE: [study.plan.trial_dir(baseline.number)],
        BEST: [study.plan.trial_dir(best.number)],
    }
    try:
        return ConfusionMatrices(
            _mean_matrix(runs[BASELINE]), _mean_matrix(runs[BEST]), len(runs[BEST])
        )
    except (OSError, ValueError, KeyError):  # the user removed it, or a power cut truncated it
        return None


def _paired_runs(candidate: Candidate | None) -> dict[str, list[Path]]:
    """Returns the confirmation's runs by config, for the seeds that both have; empty if none."""
    if candidate is None or candidate.verdict is None:
        return {}
    runs = {config: candidate.runs.get(config, {}) for config in (BASELINE, BEST)}
    seeds = sorted(runs[BASELINE].keys() & runs[BEST].keys())
    return {config: [runs[config][seed] for seed in seeds] for config in runs} if seeds else {}


def _mean_matrix(runs: Sequence[Path]) -> Counts:
    counts = np.array(
        [json.loads((run / MATRIX).read_text())["counts"] for run in runs], dtype=np.float64
    )
    mean: Counts = counts.mean(axis=0)
    return mean


def _format_count(count: float) -> str:
    return f"{count:.1f}".removesuffix(".0")
