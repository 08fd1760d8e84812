"""Confusion matrices of baseline and best config: which changes are named, which runs count."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from studies import Studies, compare, train

from svhn_sweep.sweep.selection.champion import BASELINE, BEST, Candidate
from svhn_sweep.sweep.selection.confusion_differences import (
    MATRIX,
    ConfusionMatrices,
    load_confusion_matrices,
)
from svhn_sweep.sweep.study.study import Study

CORRECT = 100  # images of each digit that are classified correctly


def matrix(counts_by_cell: Mapping[tuple[int, int], float]) -> np.ndarray:
    counts = np.diag(np.full(10, float(CORRECT)))
    for cell, count in counts_by_cell.items():
        counts[cell] = count
    return counts


def searched(studies: Studies, *values: float) -> Study:
    study = studies.open()
    for number, value in enumerate(values):
        train(study, value)
        with_matrix(study.plan.trial_dir(number), {(3, 5): 10.0 * number})
    return study


def with_matrix(folder: Path, counts_by_cell: Mapping[tuple[int, int], float]) -> Path:
    (folder / MATRIX).parent.mkdir(parents=True)
    (folder / MATRIX).write_text(json.dumps({"counts": matrix(counts_by_cell).tolist()}))
    return folder


@pytest.mark.parametrize(
    ("baseline", "best", "improved", "worsened"),
    [
        ({}, {}, [], []),
        ({(3, 5): 4}, {(3, 5): 1}, [(3, 5)], []),
        ({(3, 5): 1}, {(3, 5): 4}, [], [(3, 5)]),
        ({(3, 5): 1, (5, 3): 9}, {(3, 5): 4, (5, 3): 0}, [(5, 3)], [(3, 5)]),
        ({(0, 0): 90}, {(0, 0): 99}, [], []),  # the diagonal counts correct predictions
        (
            {(1, 2): 4, (1, 3): 9, (1, 4): 2, (1, 5): 7},
            {},
            [(1, 3), (1, 5), (1, 2)],
            [],
        ),  # the three that changed most
        ({(9, 8): 2, (0, 1): 2}, {}, [(0, 1), (9, 8)], []),
    ],
)
def test_pairs_are_named_in_order_of_their_change(
    baseline: dict[tuple[int, int], float],
    best: dict[tuple[int, int], float],
    improved: list[tuple[int, int]],
    worsened: list[tuple[int, int]],
) -> None:
    matrices = ConfusionMatrices(matrix(baseline), matrix(best), 1)
    assert (matrices.changed_pairs(1), matrices.changed_pairs(-1)) == (improved, worsened)


def test_a_gain_is_more_on_the_diagonal_and_fewer_beside_it() -> None:
    matrices = ConfusionMatrices(matrix({(3, 5): 4}), matrix({(3, 3): CORRECT + 4, (3, 5): 0}), 1)
    assert matrices.gain[3, 3] == matrices.gain[3, 5] == 4
    assert matrices.difference[3, 5] == -4


@pytest.mark.parametrize(
    ("runs", "best", "sentence"),
    [
        (1, {(3, 5): 4}, ""),
        (
            1,
            {(3, 5): 1},
            "on validation, compared with the baseline, the best config takes fewer images of "
            "3 for 5 (1 instead of 4)",
        ),
        (
            5,
            {(3, 5): 1.2, (7, 1): 3},
            "on validation, compared with the baseline, the best config takes fewer images of "
            "3 for 5 (1.2 instead of 4) and more images of 7 for 1 (3 instead of 0); means of 5 "
            "runs",
        ),
    ],
)
def test_the_sentence_names_changes_with_their_counts(
    runs: int, best: dict[tuple[int, int], float], sentence: str
) -> None:
    assert ConfusionMatrices(matrix({(3, 5): 4}), matrix(best), runs).sentence() == sentence


@pytest.mark.parametrize("values", [(), (0.8,), (0.8, 0.7)])
def test_without_a_trial_that_beats_the_baseline_there_are_no_matrices(
    studies: Studies, values: tuple[float, ...]
) -> None:
    assert load_confusion_matrices(searched(studies, *values), None) is None


def test_without_a_confirmation_the_matrices_are_those_of_the_trials(studies: Studies) -> None:
    matrices = load_confusion_matrices(searched(studies, 0.7, 0.6, 0.8), None)
    assert matrices is not None
    assert (matrices.baseline[3, 5], matrices.best[3, 5], matrices.runs) == (0, 20, 1)


def test_with_a_confirmation_the_matrices_are_means_over_seeds_that_both_configs_have(
    studies: Studies, tmp_path: Path
) -> None:
    study = searched(studies, 0.7, 0.8)
    runs = {
        BASELINE: {
            43: with_matrix(tmp_path / "b43", {(1, 7): 8}),
            44: with_matrix(tmp_path / "b44", {(1, 7): 4}),
        },
        BEST: {
            43: with_matrix(tmp_path / "43", {(1, 7): 3}),
            44: with_matrix(tmp_path / "44", {(1, 7): 0}),
            45: with_matrix(tmp_path / "45", {(1, 7): 90}),
        },
    }
    matrices = load_confusion_matrices(
        study, Candidate(study, 1, {1: compare((0.7, 0.7), (0.8, 0.81), maximize=True)}, runs)
    )
    assert matrices is not None
    assert (matrices.baseline[1, 7], matrices.best[1, 7], matrices.runs) == (6, 1.5, 2)
