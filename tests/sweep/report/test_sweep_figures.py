from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import optuna
import pytest
from matplotlib.figure import Figure
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial
from PIL import Image

from svhn_sweep.sweep.report import figures
from svhn_sweep.sweep.report.pareto_figure import value_by_size
from svhn_sweep.sweep.selection.confusion_differences import ConfusionMatrices

SPACE: dict[str, BaseDistribution] = {
    "training.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    "model.dropout": FloatDistribution(0.0, 0.6),
    "model.filters.conv1": IntDistribution(8, 32, step=8),
    "training.optimizer": CategoricalDistribution(["adam", "sgd"]),
    "training.seed": IntDistribution(3, 3),
}
NAMES = [
    "history",
    "importances",
    "parallel_coordinates",
    "slices",
    "learning_curves",
    "value_by_size",
]
STATES = [TrialState.COMPLETE] * 3 + [TrialState.PRUNED, TrialState.FAIL]


def study_of(
    states: list[TrialState],
    direction: Literal["maximize", "minimize"] = "maximize",
    last_value: Callable[[int], float] = lambda number: 0.7 + 0.01 * number,
) -> optuna.Study:
    """A study with a trial of each state, in that order; its value is that of its second epoch."""
    study = optuna.create_study(direction=direction)
    study.add_trials(
        [_trial(number, state, last_value(number)) for number, state in enumerate(states)]
    )
    return study


def _trial(number: int, state: TrialState, value: float) -> FrozenTrial:
    return create_trial(
        state=state,
        value=value if state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        params={
            "training.learning_rate": 10 ** (-3.5 + number % 25 / 20),
            "model.dropout": 0.5 - number % 25 / 50,
            "model.filters.conv1": 8 + 8 * (number % 4),
            "training.optimizer": "adam" if number % 2 else "sgd",
            "training.seed": 3,
        },
        distributions=SPACE,
        intermediate_values={1: 0.5, 2: value},
        user_attrs={"parameters": 1000 + number % 7, "multiply_adds": 10**6 + number % 5},
    )


@pytest.mark.parametrize(
    "study",
    [
        study_of([]),
        study_of(STATES * 4),
        study_of(STATES * 4, "minimize"),
        study_of([TrialState.COMPLETE]),
        study_of([TrialState.PRUNED] * 3),
        study_of([TrialState.FAIL, TrialState.RUNNING]),
        study_of([TrialState.FAIL, TrialState.COMPLETE, TrialState.WAITING]),
        study_of([TrialState.COMPLETE] * 10, last_value=lambda number: 0.19),
        study_of([TrialState.COMPLETE] * 10, last_value=lambda number: 0.9 if number == 4 else 0.0),
    ],
    ids=[
        "none",
        "all kinds",
        "minimize",
        "one",
        "pruned",
        "failed",
        "baseline failed",
        "constant",
        "one good",
    ],
)
def test_each_figure_is_drawn_at_any_stage(study: optuna.Study, tmp_path: Path) -> None:
    paths = figures.save_all(study, "val/accuracy", None, tmp_path / "new" / "folder")
    assert paths == [tmp_path / "new" / "folder" / f"{name}.png" for name in NAMES]
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("L"))
        assert pixels.shape[1] > 600
        assert (pixels < 128).mean() > 0.001  # not empty axes


@pytest.mark.parametrize(
    "draw", [figures.history, figures.learning_curves, value_by_size, figures.slices]
)
def test_the_legend_fits_into_the_figure(
    draw: Callable[[optuna.Study, str], Figure],
) -> None:
    states = [*STATES * 4, TrialState.RUNNING]
    study = study_of(states, last_value=lambda number: 0.9 + 0.001 * number if number else 0.2)
    figure = draw(study, "val/accuracy")
    (legend,) = figure.legends
    assert len(legend.get_texts()) > 2
    assert legend.get_window_extent().width <= figure.bbox.width


@pytest.mark.parametrize("runs", [1, 5])
def test_cells_that_improve_are_blue_and_cells_that_worsen_are_orange(
    tmp_path: Path, runs: int
) -> None:
    baseline = np.diag(np.full(10, 100.0))
    best = baseline.copy()
    baseline[7, 1], best[3, 5] = 4, 4
    paths = figures.save_all(
        study_of(STATES), "val/accuracy", ConfusionMatrices(baseline, best, runs), tmp_path
    )
    assert [path.stem for path in paths] == [*NAMES, "confusion_difference"]
    pixels = np.asarray(Image.open(paths[-1]).convert("RGB")).astype(int)
    redness = pixels[..., 0] - pixels[..., 2]
    assert (redness < -60).mean() > 0.003  # a blue cell beside the colour bar
    assert (redness > 60).mean() > 0.003  # an orange one


def test_the_heatmap_has_true_digits_as_rows_and_predicted_digits_as_columns() -> None:
    baseline = np.diag(np.full(10, 100.0))
    best = baseline.copy()
    baseline[7, 1], best[3, 5], best[4, 4] = 4, 2, 103
    figure = figures.confusion_difference(ConfusionMatrices(baseline, best, 1))
    axes, colour_bar = figure.axes
    assert axes.get_ylabel() == "true digit"
    assert axes.get_xlabel().splitlines() == [
        "predicted digit", "", "fewer 7 for 1 (4 to 0)", "more 3 for 5 (0 to 2)"
    ]  # fmt: skip
    assert colour_bar.get_ylabel() == "images that are better (blue) or worse (orange)"
    for axis in (axes.xaxis, axes.yaxis):
        assert [label.get_text() for label in axis.get_ticklabels()] == list("0123456789")
        assert np.allclose(axis.get_ticklocs(), np.arange(10) + 0.5)
    assert (axes.xaxis.get_inverted(), axes.yaxis.get_inverted()) == (False, True)  # 0 at the top
    x_y_by_text = {text.get_text(): text.get_position() for text in axes.texts if text.get_text()}
    assert x_y_by_text == {"-4": (1.5, 7.5), "+2": (5.5, 3.5), "+3": (4.5, 4.5)}
    colours = np.zeros((10, 10))  # [true digit, predicted digit]
    colours[7, 1] = 4
    colours[3, 5] = -2
    colours[4, 4] = 3
    assert np.array_equal(np.asarray(axes.collections[0].get_array()).reshape(10, 10), colours)


def test_history_marks_each_trial_by_its_state_and_a_value_off_the_axis_at_its_end() -> None:
    states = [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.COMPLETE,
        TrialState.COMPLETE,
    ]
    figure = figures.history(
        study_of(states, last_value=lambda number: [0.8, 0.5, 0.0, 0.84, 0.82][number]),
        "val/accuracy",
    )
    (axes,) = figure.axes
    best, *markers = axes.get_lines()
    assert (
        figure.get_suptitle().replace("\n", " ")
        == "val/accuracy: trial 3 is the best with 84.00%, +4.00 points against the baseline"
    )
    assert np.allclose(best.get_ydata(), [0.8, 0.84, 0.84])
    assert {str(line.get_label()) for line in markers} == {
        "complete", "baseline", "pruned, off the axis", "diverged or failed"
    }  # fmt: skip
    assert 0.79 < axes.get_ylim()[0] < 0.8
    pruned = next(line for line in markers if line.get_label() == "pruned, off the axis")
    assert (pruned.get_marker(), pruned.get_markerfacecolor()) == ("v", "none")


def test_history_of_a_minimized_metric_has_the_lowest_value_as_best() -> None:
    figure = figures.history(study_of([TrialState.COMPLETE] * 3, "minimize"), "val/loss")
    assert figure.get_suptitle() == "val/loss: baseline is the best with 0.7000"
    assert np.allclose(figure.axes[0].get_lines()[0].get_ydata(), 0.7)


def test_a_hyperparameter_of_one_trial_is_no_warning_in_the_terminal() -> None:
    study = study_of([TrialState.COMPLETE] * 20)
    trial = _trial(20, TrialState.COMPLETE, 0.5)
    trial.params["patience"], trial.distributions["patience"] = 2, IntDistribution(1, 3)
    study.add_trial(trial)
    axes = figures.importances(study, "val/accuracy").axes[0]
    assert "patience" in [label.get_text() for label in axes.get_yticklabels()]


def test_importances_are_the_same_each_time_and_sum_to_one() -> None:
    study = study_of([TrialState.COMPLETE] * 20)
    first, second = (figures.importances(study, "val/accuracy").axes[0] for _ in range(2))
    assert [str(bar) for bar in first.patches] == [str(bar) for bar in second.patches]
    shares = [int(text.get_text().removesuffix("%")) for text in first.texts]
    assert shares == sorted(shares)
    assert sum(shares) == pytest.approx(100, abs=3)  # rounded


def test_a_hyperparameter_that_only_pruned_trials_vary_has_an_importance() -> None:
    """Optuna alone would look at the complete trials, which all have the same optimizer."""
    states = [TrialState.PRUNED, TrialState.COMPLETE] * 10  # even numbers have the optimizer sgd
    for direction in ("maximize", "minimize"):
        axes = figures.importances(study_of(states, direction), "val/accuracy").axes[0]
        names = [label.get_text() for label in axes.get_yticklabels()]
        shares = dict(zip(names, (text.get_text() for text in axes.texts), strict=True))
        assert int(shares["optimizer"].removesuffix("%")) > 10


@pytest.mark.parametrize(
    ("n_complete", "n_pruned", "top"), [(10, 0, 5), (5, 5, 5), (60, 10, 7), (6, 64, 6)]
)
def test_the_best_trials_are_a_tenth_but_at_least_five_and_complete(
    n_complete: int, n_pruned: int, top: int
) -> None:
    states = [TrialState.COMPLETE] * n_complete + [TrialState.PRUNED] * n_pruned
    figure = figures.importances(study_of(states), "val/accuracy")
    assert figure.get_suptitle().startswith(f"What sets the best {top} of {len(states)} trials")


@pytest.mark.parametrize(
    ("n_complete", "n_pruned"), [(0, 0), (1, 0), (9, 0), (8, 1), (4, 20), (5, 4)]
)
def test_importances_of_too_few_trials_are_a_message(n_complete: int, n_pruned: int) -> None:
    states = [TrialState.COMPLETE] * n_complete + [TrialState.PRUNED] * n_pruned
    figure = figures.importances(study_of(states), "val/accuracy")
    assert [text.get_text() for text in figure.texts[-1:]] == [
        "This takes 10 complete or pruned trials, at least 5 of them complete and not all alike; "
        f"so far {n_complete + n_pruned}."
    ]


def test_slices_have_the_ticks_of_the_search_space() -> None:
    figure = figures.slices(study_of(STATES), "val/accuracy")
    ticks = {
        axes.get_xlabel(): [tick.get_text() for tick in axes.get_xticklabels()]
        for axes in figure.axes
    }
    assert {
        name: ticks[name] for name in ("learning_rate", "dropout", "conv1", "optimizer", "seed")
    } == {
        "learning_rate": ["0.0001", "0.001", "0.01"],
        "dropout": ["0", "0.15", "0.3", "0.45", "0.6"],
        "conv1": ["8", "16", "24", "32"],
        "optimizer": ["adam", "sgd"],
        "seed": ["3"],
    }
    assert np.allclose(figure.axes[0].get_xticks(), [0, 0.5, 1])


def test_parallel_coordinates_draw_complete_trials_and_a_dashed_baseline() -> None:
    axes = figures.parallel_coordinates(study_of(STATES * 2), "val/accuracy").axes[0]
    n_points = len(SPACE) + 1
    lines = [line for line in axes.get_lines() if np.size(line.get_xdata()) == n_points]
    assert len(lines) == 6
    assert [line.get_label() for line in lines if line.get_linestyle() == "--"] == ["baseline"]


def test_learning_curves_label_the_best_trial_and_have_a_close_up() -> None:
    whole, close_up = figures.learning_curves(study_of(STATES), "val/accuracy").axes
    assert [line.get_label() for line in whole.get_lines()] == [
        "diverged or failed", "pruned", "baseline", "complete", "trial 2, the best"
    ]  # fmt: skip
    assert np.array_equal(whole.get_lines()[-1].get_ydata(), [0.5, 0.72])
    assert whole.get_ylim()[0] < 0.5 < close_up.get_ylim()[0]
