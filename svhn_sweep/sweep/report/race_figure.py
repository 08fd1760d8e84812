"""Draws the race of a confirmation."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from svhn_sweep.figure_size import PAGE_WIDTH
from svhn_sweep.sweep.plan.formatting import is_accuracy
from svhn_sweep.sweep.report.chart_axes import (
    BLUE,
    GREY,
    ORANGE,
    add_legend,
    new_figure,
)
from svhn_sweep.sweep.report.verdict_sentences import race_state
from svhn_sweep.sweep.selection.race import Race
from svhn_sweep.sweep.selection.repeated_intervals import MIN_PAIRS

SPREAD = 0.4  # of the candidates' bars around each number of pairs, in pairs


def race(result: Race, metric: str, margin: float) -> Figure:
    """Draws each candidate's difference to the baseline and its interval after each pair.

    The y axis holds the baseline and the later half of the intervals: the first are too wide to
    show the others.

    Args:
        result: A race with at least one look.
        metric: The name of the sweep's metric.
        margin: The largest difference that counts as none; shown as a band.
    """
    figure = new_figure(_title(result, metric), PAGE_WIDTH, 4)
    axes = figure.subplots()
    axes.axhspan(-margin, margin, color="0.92", label="within the margin", zorder=0)
    axes.axhline(0, color="black", linestyle="--", linewidth=1.2, label="baseline")
    numbers = [number for number, looks in result.looks.items() if looks]
    offsets = np.linspace(-SPREAD / 2, SPREAD / 2, len(numbers)) if len(numbers) > 1 else [0.0]
    shades = iter(np.linspace(1.0, 0.4, sum(number != result.leader for number in numbers)))
    for number, offset in zip(numbers, offsets, strict=True):
        looks = result.looks[number]
        differences = np.array([look.difference for look in looks])
        ends = np.array([[look.low, look.high] for look in looks]).T
        is_leader = number == result.leader
        style = {"color": ORANGE} if is_leader else {"color": BLUE, "alpha": next(shades)}
        axes.errorbar(
            [look.pairs + offset for look in looks],
            differences,
            yerr=np.abs(ends - differences),
            marker="o",
            markersize=4,
            capsize=3,
            linewidth=2 if is_leader else 1.2,
            zorder=3 if is_leader else 2,
            label="_",
            **style,
        )
        label = f"trial {number}, the best candidate" if is_leader else f"trial {number}"
        axes.plot([], [], marker="o", label=label, **style)
        if number in result.left:
            end = looks[-1]
            axes.plot(end.pairs + offset, end.difference, "x", color=GREY, ms=11, label="left")
    _limit(axes, result)
    axes.set(xlabel="seeds", ylabel=f"{metric} minus the baseline's")
    if is_accuracy(metric):
        axes.set_ylabel("points above the baseline")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.3g}"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    add_legend(figure, axes)
    return figure


def _limit(axes: Axes, result: Race) -> None:
    """Limits the axes to the baseline, all means and the later half of the intervals."""
    looks = [look for looks in result.looks.values() for look in looks]
    last = max(look.pairs for look in looks)
    later = [look for look in looks if look.pairs > (MIN_PAIRS + last) / 2] or looks
    ends = [0.0, *(end for look in later for end in (look.low, look.high))]
    ends += [look.difference for look in looks]
    room = 0.05 * (max(ends) - min(ends))
    axes.set(xlim=(MIN_PAIRS - 0.5, max(last, MIN_PAIRS + 1) + 0.5))
    axes.set(ylim=(min(ends) - room, max(ends) + room))


def _title(result: Race, metric: str) -> str:
    if result.leader is None:
        return "The race: every candidate has left it"
    pairs = result.looks[result.leader][-1].pairs
    outcome = f": {result.outcome}" if result.outcome is not None else ""
    return f"The race after {pairs} seeds: {race_state(result, metric)}{outcome}"
