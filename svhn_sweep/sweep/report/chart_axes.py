"""Provides the axes, scales and styles that the figures of a study share."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    Formatter,
    FuncFormatter,
    Locator,
    LogLocator,
    MaxNLocator,
    ScalarFormatter,
)
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from svhn_sweep.figure_size import PAGE_DPI, PAGE_WIDTH
from svhn_sweep.sweep.plan.formatting import is_accuracy
from svhn_sweep.sweep.report.leaderboard import Row
from svhn_sweep.trial_status import TrialStatus

BLUE, ORANGE, _, RED = sns.color_palette("colorblind")[:4]
GREY = "0.55"
DPI = 150
UNFINISHED = (TrialStatus.running, TrialStatus.interrupted)
FAILED = "diverged or failed"  # in legends
MAX_LEGEND_COLUMNS = 5


@dataclass(frozen=True)
class UnitScale:
    """Maps the values of a hyperparameter to 0..1 within its search space.

    Attributes:
        positions: The position in 0..1 of each value that was tried or can be chosen.
        ticks: The label of each tick, by position.
    """

    positions: Mapping[object, float]
    ticks: Mapping[float, str]


def new_figure(title: str, width: float, height: float) -> Figure:
    """Creates an empty figure with a title; width and height are in inches."""
    dpi = PAGE_DPI if width <= PAGE_WIDTH else DPI
    figure = Figure(figsize=(width, height), layout="constrained", dpi=dpi)
    figure.suptitle(textwrap.fill(title, int(11 * width)), fontsize=12)
    return figure


def message_figure(title: str, text: str) -> Figure:
    """Creates a figure that explains why there is nothing to draw yet."""
    figure = new_figure(title, PAGE_WIDTH, 2)
    figure.text(0.5, 0.4, text, ha="center", fontsize=11)
    return figure


def add_legend(figure: Figure, axes: Axes) -> None:
    """Adds one legend below the figure, with each label of these axes once, in few rows."""
    handles, labels = axes.get_legend_handles_labels()
    by_label = dict(zip(labels, handles, strict=True))
    for columns in range(min(len(by_label), MAX_LEGEND_COLUMNS), 0, -1):
        legend = figure.legend(
            by_label.values(),
            by_label.keys(),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
        )
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def metric_formatter(metric: str) -> Formatter:
    """Returns a formatter of accuracies as percent, and of other metrics as plain numbers."""
    percent = FuncFormatter(lambda value, _: f"{100 * value:.4g}%")
    return percent if is_accuracy(metric) else ScalarFormatter(useOffset=False)


def value_limits(trial_rows: Sequence[Row], sign: int) -> tuple[float, float]:
    """Returns limits of the y axis that hold the best value and the worst complete one.

    The axis ends at four times the distance of the median from the best, so that a few bad trials
    do not hide the differences between the others.

    Args:
        trial_rows: The leaderboard.
        sign: 1 if smaller values are better, -1 if larger ones are.

    Returns:
        The lower and the upper limit; 0 and 1 if no trial has a value.
    """
    complete = [row.value for row in trial_rows if row.rank]
    values = sign * np.array(complete or [row.value for row in trial_rows if row.value is not None])
    if len(values) == 0:
        return 0.0, 1.0
    best = values.min()
    worst = min(values.max(), best + 4 * (np.median(values) - best))
    margin = 0.06 * (worst - best) or 0.01 * abs(best) or 0.01
    low, high = sorted((sign * (best - margin), sign * (worst + margin)))
    return float(low), float(high)


def set_value_axis(
    axes: Axes, trial_rows: Sequence[Row], sign: int, metric: str
) -> tuple[float, float]:
    """Prepares the y axis for values of the metric and returns its limits."""
    limits = value_limits(trial_rows, sign)
    axes.set(ylim=limits, ylabel=metric)
    axes.yaxis.set_major_formatter(metric_formatter(metric))
    axes.grid(alpha=0.3)
    return limits


def scatter_trials(
    axes: Axes,
    trial_rows: Sequence[Row],
    xs: Sequence[float],
    limits: tuple[float, float],
    number_colors: ScalarMappable | None = None,
) -> None:
    """Draws one marker for each trial: complete filled, pruned open, failed crosses at the bottom.

    Args:
        axes: Receives the markers.
        trial_rows: The trials.
        xs: The x coordinate of each trial.
        limits: Of the y axis; a value beyond them is a triangle at the axis' end.
        number_colors: Colours complete trials by their number; None colours all blue.
    """
    for row, x in zip(trial_rows, xs, strict=True):
        if row.value is not None:
            y = min(max(row.value, limits[0]), limits[1])
            marker = "o" if y == row.value else "v" if y > row.value else "^"
            label = row.state if y == row.value else f"{row.state}, off the axis"
            color = number_colors.to_rgba(np.array(row.number)) if number_colors else BLUE
            face, edge = (color, color) if row.rank else ("none", GREY)
            dot = axes.plot(x, y, marker, mfc=face, mec=edge, clip_on=False, label=label)[0]
            if row.is_baseline:
                dot.set(marker="D", markeredgecolor="black")
                axes.axhline(y, color="black", linestyle="--", linewidth=1.2, label="baseline")
        elif row.state not in UNFINISHED:
            at_the_bottom = axes.get_xaxis_transform()
            axes.plot(x, 0.04, "x", color=RED, transform=at_the_bottom, label=FAILED)


def unit_scale(study: optuna.Study, key: str) -> UnitScale:
    """Returns the scale of a hyperparameter that at least one trial has."""
    trials_with_key = [trial for trial in study.get_trials(deepcopy=False) if key in trial.params]
    searched = trials_with_key[-1].distributions[key]
    used = [trial.params[key] for trial in trials_with_key]
    if isinstance(searched, CategoricalDistribution):
        last = max(len(searched.choices) - 1, 1)
        positions: dict[object, float] = {
            choice: index / last for index, choice in enumerate(searched.choices)
        }
        return UnitScale(
            positions, {position: str(choice) for choice, position in positions.items()}
        )
    assert isinstance(searched, FloatDistribution | IntDistribution)
    low = min(searched.low, *used)
    high = max(searched.high, *used)
    norm: Normalize = (LogNorm if searched.log else Normalize)(low, high)
    ticks = _tick_locator(searched, low, high).tick_values(low, high)
    inside = [tick for tick in ticks if low - 1e-9 <= tick <= high + 1e-9]
    return UnitScale(
        {value: float(norm(value)) for value in used},
        {float(norm(tick)): f"{tick:g}" for tick in inside or [low]},
    )


def _tick_locator(
    searched: FloatDistribution | IntDistribution, low: float, high: float
) -> Locator:
    if searched.log:
        return LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,))
    step = searched.step or math.inf
    if step <= high - low <= 6 * step:
        steps = [low + step * count for count in range(7)]
        return FixedLocator([tick for tick in steps if tick <= high])
    return MaxNLocator(5)


def curve_style(row: Row) -> dict[str, Any]:
    """Returns the keyword arguments of `Axes.plot` for the learning curve of a trial."""
    label: str = row.state
    if row.is_baseline:
        label = "baseline"
        style = {"color": "black", "linestyle": "--", "linewidth": 1.8, "zorder": 4}
    elif row.rank == 1:
        label = f"{row.name}, the best"
        style = {"color": ORANGE, "linewidth": 2.4, "zorder": 3}
    elif row.state == TrialStatus.complete:
        style = {"color": BLUE, "alpha": 0.45}
    elif row.state == TrialStatus.pruned:
        style = {"color": GREY, "alpha": 0.7, "marker": "o", "markerfacecolor": "none"}
    elif row.state in UNFINISHED:
        style = {"color": BLUE, "linestyle": ":"}
    else:
        label = FAILED
        style = {"color": RED, "marker": "x"}
    return {"linewidth": 1.0, "marker": ".", "label": label} | style
