"""Tests which trials are worth their price, and the sentence about the smallest of them."""

from typing import Literal

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from svhn_sweep.sweep.report import pareto, pareto_figure
from svhn_sweep.sweep.report.leaderboard import Row, make_rows
from svhn_sweep.sweep.study.inference_times import InferenceTimes

C, P, F = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL
Trial = tuple[TrialState, float, int | None]  # its state, its value, its parameters


def study_of(*trials: Trial, minimize: bool = False) -> optuna.Study:
    direction: Literal["maximize", "minimize"] = "minimize" if minimize else "maximize"
    study = optuna.create_study(direction=direction)
    for state, value, size in trials:
        sizes = {} if size is None else {"parameters": size, "multiply_adds": 1_000_000 - size}
        study.add_trial(
            create_trial(
                state=state,
                value=None if state == F else value,
                intermediate_values={1: value},
                user_attrs=sizes,
            )
        )
    return study


def rows_of(*trials: Trial, minimize: bool = False) -> list[Row]:
    return make_rows(study_of(*trials, minimize=minimize))


@pytest.mark.parametrize(
    ("trials", "front"),
    [
        ([], []),
        ([(C, 0.8, 100)], [0]),
        ([(C, 0.8, 100), (C, 0.9, 200)], [0, 1]),
        ([(C, 0.9, 100), (C, 0.8, 200)], [0]),  # the baseline is better and smaller
        ([(C, 0.8, 100), (C, 0.9, 200), (C, 0.85, 300)], [0, 1]),
        ([(C, 0.8, 300), (C, 0.9, 400), (C, 0.7, 100)], [2, 0, 1]),  # the smallest comes first
        ([(C, 0.8, 200), (C, 0.8, 100)], [1]),  # equal values: the smaller one
        ([(C, 0.8, 100), (C, 0.9, 100)], [1]),  # equal sizes: the better one
        ([(C, 0.8, 100), (C, 0.8, 100)], [0]),  # duplicates: the first
        ([(C, 0.8, 200), (P, 0.95, 100), (F, 0.99, 50)], [0]),  # neither pruned nor failed ones
        ([(F, 0.8, 100), (C, 0.9, 200)], [1]),  # without a baseline
        ([(C, 0.8, None), (C, 0.7, 200)], [1]),  # of an earlier version, without a size
    ],
)
def test_the_front_has_the_trials_that_no_smaller_one_equals(
    trials: list[Trial], front: list[int]
) -> None:
    found = pareto.pareto_front(rows_of(*trials), pareto.parameters)
    assert [row.number for row in found] == front
    mirrored = [(state, 1 - value, size) for state, value, size in trials]
    rows = rows_of(*mirrored, minimize=True)
    found = pareto.pareto_front(rows, pareto.parameters)
    assert [row.number for row in found] == front


def test_each_price_has_its_own_front() -> None:
    rows = rows_of((C, 0.8, 100), (C, 0.9, 200), (C, 0.85, 300))  # more parameters, less work
    found = pareto.pareto_front(rows, pareto.multiply_adds)
    assert [row.number for row in found] == [2, 1]


@pytest.mark.parametrize(
    ("metric", "trials", "smallest"),
    [
        ("val/accuracy", [(C, 0.9, 300), (C, 0.896, 200), (C, 0.88, 100)], 1),
        ("val/accuracy", [(C, 0.9, 300), (C, 0.895, 200)], 1),  # just within 0.5 points
        ("val/accuracy", [(C, 0.9, 300), (C, 0.8949, 200)], None),
        ("val/accuracy", [(C, 0.896, 100), (C, 0.9, 300)], 0),  # the baseline
        ("val/accuracy", [(C, 0.897, 200), (C, 0.9, 300), (C, 0.896, 200)], 0),  # the better one
        ("val/accuracy", [(C, 0.9, 100), (C, 0.899, 200)], None),  # the best is the smallest
        ("val/accuracy", [(C, 0.9, 300), (P, 0.899, 100)], None),
        ("val/accuracy", [(C, 0.9, None), (C, 0.899, 100)], None),
        ("val/accuracy", [], None),
        ("val/loss", [(C, 0.40, 300), (C, 0.415, 200)], 1),
        ("val/loss", [(C, 0.40, 300), (C, 0.425, 200)], None),  # more than 5 % above
    ],
)
def test_the_smallest_config_is_named_if_it_is_nearly_the_best_and_smaller(
    metric: str, trials: list[Trial], smallest: int | None
) -> None:
    rows = rows_of(*trials, minimize=metric == "val/loss")
    found = pareto.smallest_near_best(rows, metric)
    assert (found.number if found else None) == smallest
    assert bool(pareto.size_sentence(rows, metric)) == (smallest is not None)


def test_the_sentence_has_both_prices_and_the_times_once_they_are_measured() -> None:
    study = study_of((C, 0.88, 164_362), (C, 0.897, 61_000), (C, 0.9, 240_000))
    sentence = (
        "the smallest config within 0.5 points of the best, on one seed, is trial 1: 89.70% with "
        "61,000 parameters{} multiply-adds{}; trial 2, the best, has 90.00% with "
        "240,000 parameters{} multiply-adds{}"
    )
    assert pareto.size_sentence(make_rows(study), "val/accuracy") == sentence.format(
        " and 939.0 k", "", " and 760.0 k", ""
    )
    InferenceTimes().extended("a CPU", {1: [0.3, 0.12, 0.1], 2: [2.5, 2.4, 2.6]}).save(study)
    assert pareto.size_sentence(make_rows(study), "val/accuracy") == sentence.format(
        ", 939.0 k",
        " and 0.12 s for 1,000 images on one core",
        ", 760.0 k",
        " and 2.5 s for 1,000 images on one core",
    )


def test_times_are_read_as_they_were_written() -> None:
    study = study_of((C, 0.9, 100))
    assert InferenceTimes.load(study) == InferenceTimes()
    times = InferenceTimes().extended("a CPU", {0: [0.25, 0.5, 0.75]})
    times = times.extended("a CPU", {7: [1.0, 1.0, 1.0]})
    times.save(study)
    assert InferenceTimes.load(study) == times
    assert (times.medians, times.spreads) == ({0: 0.5, 7: 1.0}, {0: 0.5, 7: 0.0})


@pytest.mark.parametrize("n_trials", [2, 40, 100])
def test_labels_cover_neither_each_other_nor_a_point(n_trials: int) -> None:
    trials: list[Trial] = [
        (C, 0.8 + 0.1 * number / n_trials, 50_000 + 500 * number) for number in range(n_trials)
    ]
    figure = pareto_figure.value_by_size(study_of(*trials), "val/accuracy")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = [text.get_window_extent() for text in axes.texts]
    lines = [np.asarray(line.get_xydata()) for line in axes.get_lines()]
    points = [axes.transData.transform(line[0]) for line in lines if len(line) == 1]
    assert len(boxes) >= min(n_trials, 10)
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
        assert not any(box.contains(*point) for point in points)


@pytest.mark.parametrize(
    ("trials", "title", "bold"),
    [
        (
            [(C, 0.9, 300), (C, 0.899, 200)],
            "The smallest config within 0.5 points of the best: trial 1, 200 parameters",
            "1",
        ),
        (
            [(C, 0.9, 200), (C, 0.8, 100)],
            "The best config is also the smallest within 0.5 points of the best: the baseline, "
            "200 parameters",
            "baseline",
        ),
    ],
)
def test_the_title_names_the_smallest_config_which_is_bold(
    trials: list[Trial], title: str, bold: str
) -> None:
    figure = pareto_figure.value_by_size(study_of(*trials), "val/accuracy")
    assert figure.get_suptitle().replace("\n", " ") == title
    texts = figure.axes[0].texts
    assert [text.get_text() for text in texts if text.get_fontweight() == "bold"] == [bold]
    assert [axes.get_xscale() for axes in figure.axes] == ["log", "log"]
