"""Two confusion matrices beside each other: which pairs of digits are named, and from which runs
they come.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from studies import Studies, train

from svhn_sweep.sweep.selection.champion import BASELINE, BEST, Candidate
from svhn_sweep.sweep.selection.confirmation import compare
from svhn_sweep.sweep.selection.confusion_differences import MATRIX, Confusions, confusions
from svhn_sweep.sweep.study.study import Study

RIGHT = 100  # images of each digit that are recognised


def matrix(changes: Mapping[tuple[int, int], float]) -> np.ndarray:
    counts = np.diag(np.full(10, float(RIGHT)))
    for cell, count in changes.items():
        counts[cell] = count
    return counts


def searched(studies: Studies, *values: float) -> Study:
    study = studies.open()
    for number, value in enumerate(values):
        train(study, value)
        judged(study.folder(number), {(3, 5): 10.0 * number})
    return study


def judged(folder: Path, changes: Mapping[tuple[int, int], float]) -> Path:
    (folder / MATRIX).parent.mkdir(parents=True)
    (folder / MATRIX).write_text(json.dumps({"counts": matrix(changes).tolist()}))
    return folder


@pytest.mark.parametrize(
    ("baseline", "best", "improved", "worsened"),
    [
        ({}, {}, [], []),
        ({(3, 5): 4}, {(3, 5): 1}, [(3, 5)], []),
        ({(3, 5): 1}, {(3, 5): 4}, [], [(3, 5)]),
        ({(3, 5): 1, (5, 3): 9}, {(3, 5): 4, (5, 3): 0}, [(5, 3)], [(3, 5)]),
        ({(0, 0): 90}, {(0, 0): 99}, [], []),  # the diagonal holds no confusion
        (
            {(1, 2): 4, (1, 3): 9, (1, 4): 2, (1, 5): 7},
            {},
            [(1, 3), (1, 5), (1, 2)],
            [],
        ),  # the three that changed most
        ({(9, 8): 2, (0, 1): 2}, {}, [(0, 1), (9, 8)], []),
    ],
)
def test_the_pairs_that_changed_most(
    baseline: dict[tuple[int, int], float],
    best: dict[tuple[int, int], float],
    improved: list[tuple[int, int]],
    worsened: list[tuple[int, int]],
) -> None:
    both = Confusions(matrix(baseline), matrix(best), 1)
    assert (both.pairs(1), both.pairs(-1)) == (improved, worsened)


def test_a_gain_is_more_on_the_diagonal_and_fewer_beside_it() -> None:
    both = Confusions(matrix({(3, 5): 4}), matrix({(3, 3): RIGHT + 4, (3, 5): 0}), 1)
    assert both.gain[3, 3] == both.gain[3, 5] == 4
    assert both.difference[3, 5] == -4


@pytest.mark.parametrize(
    ("runs", "best", "sentence"),
    [
        (1, {(3, 5): 4}, ""),
        (
            1,
            {(3, 5): 1},
            "digits taken for others on validation, from baseline "
            "to best config: fewer 3 for 5 (4 to 1)",
        ),
        (
            5,
            {(3, 5): 1.2, (7, 1): 3},
            "digits taken for others on validation, from baseline to "
            "best config, in the mean of 5 runs: "
            "fewer 3 for 5 (4 to 1.2); more 7 for 1 (0 to 3)",
        ),
    ],
)
def test_in_words(runs: int, best: dict[tuple[int, int], float], sentence: str) -> None:
    assert Confusions(matrix({(3, 5): 4}), matrix(best), runs).sentence() == sentence


@pytest.mark.parametrize("values", [(), (0.8,), (0.8, 0.7)])
def test_where_nothing_beat_the_baseline_there_is_nothing_to_compare(
    studies: Studies, values: tuple[float, ...]
) -> None:
    assert confusions(searched(studies, *values), None) is None


def test_without_a_confirmation_the_trials_are_compared(studies: Studies) -> None:
    both = confusions(searched(studies, 0.7, 0.6, 0.8), None)
    assert both is not None
    assert (both.baseline[3, 5], both.best[3, 5], both.runs) == (0, 20, 1)


def test_a_confirmation_counts_by_the_seeds_that_both_arms_have(
    studies: Studies, tmp_path: Path
) -> None:
    study = searched(studies, 0.7, 0.8)
    runs = {
        BASELINE: {
            43: judged(tmp_path / "b43", {(1, 7): 8}),
            44: judged(tmp_path / "b44", {(1, 7): 4}),
        },
        BEST: {
            43: judged(tmp_path / "43", {(1, 7): 3}),
            44: judged(tmp_path / "44", {(1, 7): 0}),
            45: judged(tmp_path / "45", {(1, 7): 90}),
        },
    }
    both = confusions(
        study, Candidate(study, 1, {1: compare((0.7, 0.7), (0.8, 0.81), maximize=True)}, runs)
    )
    assert both is not None
    assert (both.baseline[1, 7], both.best[1, 7], both.runs) == (6, 1.5, 2)
