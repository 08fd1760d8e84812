"""Draws the values of a study's trials against the size of their models."""

from collections.abc import Sequence

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from svhn_sweep.figure_size import PAGE_WIDTH
from svhn_sweep.sweep.plan.plan import trial_in_sentence
from svhn_sweep.sweep.report.chart_axes import (
    ORANGE,
    add_legend,
    message_figure,
    new_figure,
    scatter_trials,
    set_value_axis,
)
from svhn_sweep.sweep.report.leaderboard import Row, make_rows
from svhn_sweep.sweep.report.pareto import (
    Price,
    multiply_adds,
    nearness,
    parameters,
    pareto_front,
    smallest_near_best,
    value_limit,
)
from svhn_sweep.sweep.study.trial_values import direction_sign

PANELS: dict[str, Price] = {
    "parameters": parameters,
    "multiply-adds for one image": multiply_adds,
}
# Of a label from its point, in points: the nearest place that is free is taken.
OFFSETS = [(right, up) for up in (4, 13, 22) for right in (5, 15, 25)]
MIN_TICKS = 2


def value_by_size(study: optuna.Study, metric: str) -> Figure:
    """Draws each complete trial's value by its price, and those that no cheaper one equals."""
    trial_rows = [row for row in make_rows(study) if row.rank]
    sign = direction_sign(study)
    panels = {
        label: price for label, price in PANELS.items() if any(price(row) for row in trial_rows)
    }
    if not panels:
        text = "No trial is complete yet."
        return message_figure(f"{metric} against the size of the model", text)
    figure = new_figure(_title(trial_rows, metric), PAGE_WIDTH, 4)
    axes_of_panels = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (label, price) in zip(axes_of_panels, panels.items(), strict=True):
        _draw_panel(axes, trial_rows, price, sign, metric)
        axes.set(xlabel=label, ylabel=metric if axes is axes_of_panels[0] else "")
    add_legend(figure, axes_of_panels[0])
    figure.draw_without_rendering()  # the layout, on which the places of labels depend
    for axes, price in zip(axes_of_panels, panels.values(), strict=True):
        _label_points(axes, trial_rows, price, sign, metric)
    return figure


def _title(trial_rows: Sequence[Row], metric: str) -> str:
    smallest = smallest_near_best(trial_rows, metric)
    row = smallest or trial_rows[0]
    config = "The smallest config" if smallest else "The best config is also the smallest"
    size = f", {row.parameters:,} parameters" if row.parameters else ""
    return f"{config} {nearness(metric)}: {trial_in_sentence(row.number)}{size}"


def _draw_panel(
    axes: Axes, trial_rows: Sequence[Row], price: Price, sign: int, metric: str
) -> None:
    priced = sorted((row for row in trial_rows if price(row)), key=lambda row: row.number)
    limits = set_value_axis(axes, trial_rows, sign, metric)
    front = pareto_front(priced, price)
    xs = [float(price(row) or 0) for row in front]
    ys = np.clip([row.value or 0.0 for row in front], *limits)
    axes.step(xs, ys, where="post", color=ORANGE, label="Pareto front")
    limit = value_limit(trial_rows[0], metric)
    axes.axhline(limit, color=ORANGE, linestyle=":", label=nearness(metric))
    scatter_trials(axes, priced, [float(price(row) or 0) for row in priced], limits)
    for x, y, row in zip(xs, ys, front, strict=True):
        marker = "D" if row.is_baseline else "o"
        axes.plot(x, y, marker, mfc=ORANGE, mec="black", clip_on=False, zorder=5)
    _set_price_axis(axes, [float(price(row) or 0) for row in priced])
    _make_room_for_labels(axes, limits, sign)


def _make_room_for_labels(axes: Axes, limits: tuple[float, float], sign: int) -> None:
    """Extends the y axis beyond the best value, where the label of the best trial is."""
    low, high = limits
    room = 0.12 * (high - low)
    axes.set_ylim((low - room, high) if sign > 0 else (low, high + room))


def _set_price_axis(axes: Axes, prices: Sequence[float]) -> None:
    low = min(prices)
    high = max(prices)
    margin = max(1.1, (high / low) ** 0.09)
    low /= margin**2  # on the left is the label of the cheapest trial
    high *= margin
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    round_prices = [digit * 10**exponent for exponent in range(12) for digit in (1, 2, 5)]
    ticks = [price for price in round_prices if low <= price <= high]
    if len(ticks) < MIN_TICKS:
        ticks = [price for price in MaxNLocator(3).tick_values(low, high) if low <= price <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))


def _label_points(
    axes: Axes, trial_rows: Sequence[Row], price: Price, sign: int, metric: str
) -> None:
    """Labels the points of the front, first the one in the title, as far as there is room.

    Beyond the front there is no trial: labels are to the left of their points, on the better side.
    """
    front = pareto_front(trial_rows, price)
    named = smallest_near_best(trial_rows, metric) or trial_rows[0]
    low, high = axes.get_ylim()
    points = [(float(price(row) or 0), min(max(row.value or 0.0, low), high)) for row in front]
    taken = [_box_around(axes, point) for point in points]
    best_first = reversed(list(zip(front, points, strict=True)))
    for row, point in sorted(best_first, key=lambda item: item[0] is not named):
        label = axes.annotate(
            "baseline" if row.is_baseline else str(row.number),
            point,
            xytext=(0, 0),
            textcoords="offset points",
            ha="right",
            va="bottom" if sign < 0 else "top",
            fontsize=9,
            fontweight="bold" if row is named else "normal",
            annotation_clip=False,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        )
        for right, up in OFFSETS:
            label.set_position((-right, -sign * up))
            box = label.get_window_extent()
            inside = axes.bbox.x0 <= box.x0 and axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
        else:
            label.remove()


def _box_around(axes: Axes, point: tuple[float, float]) -> Bbox:
    """Returns the box of a marker in pixels."""
    x, y = axes.transData.transform(point)
    return Bbox.from_extents(x - 4, y - 4, x + 4, y + 4)
