"""The pictures of a study.

Each function draws one figure; none needs a display, nor a finished trial.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import seaborn as sns
from matplotlib import colormaps
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

from svhn_sweep.sweep.plan.formatting import format_difference, format_metric, short_names
from svhn_sweep.sweep.report.leaderboard import Row, keys_of, rows
from svhn_sweep.sweep.selection.confusion_differences import ConfusionMatrices
from svhn_sweep.sweep.study.trial_values import direction_sign, finite_values

BLUE, ORANGE, _, RED = sns.color_palette("colorblind")[:4]
GREY, DPI = "0.55", 150
ENOUGH = 8  # complete trials; the importances of fewer are noise


def save_all(
    study: optuna.Study, metric: str, confusions: ConfusionMatrices | None, folder: Path
) -> list[Path]:
    """Write each figure to the folder, named as its function, at any stage of the study."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = (history, importances, parallel_coordinates, slices, learning_curves)
    figures = {draw.__name__: draw(study, metric) for draw in draws}
    if confusions is not None:
        figures[confusion_difference.__name__] = confusion_difference(confusions)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")
    return [folder / f"{name}.png" for name in figures]


def history(study: optuna.Study, metric: str) -> Figure:
    """Each trial's value by its number, and the best value so far."""
    found = rows(study)
    sign = direction_sign(study)
    if not found:
        return _words(f"{metric} of each trial", "No trial has started yet.")
    figure = _figure(_headline(found, metric), 10, 4.6)
    axes = figure.subplots()
    complete = sorted((row for row in found if row.rank), key=lambda row: row.number)
    if complete:
        best = sign * np.minimum.accumulate(sign * _values(complete))
        axes.step(
            [row.number for row in complete], best, where="post", color=ORANGE, label="best so far"
        )
    _scatter(axes, found, [row.number for row in found], _value_axis(axes, found, sign, metric))
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _legend(figure, axes)
    return figure


def importances(study: optuna.Study, metric: str) -> Figure:
    """How far each param of the best trials strays from that of all: PED-ANOVA,
    https://arxiv.org/abs/2304.10255.

    Of Optuna's evaluators the one that knows log scales; it draws no random numbers. The best are a
    tenth of the trials, but at least five, as its documentation asks, where these are at most half.
    """
    values = [row.value for row in rows(study) if row.rank]
    top = max(math.ceil(len(values) / 10), min(5, len(values) // 2))
    if len(values) < ENOUGH or values[top - 1] == values[-1]:
        need = f"This takes {ENOUGH} complete trials, not all alike; so far {len(values)}."
        return _words("Importance of each hyperparameter: too early to say", need)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=top / len(values))
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    keys = sorted(shares, key=lambda key: (shares[key], key))
    title = (
        f"What sets the best {top} of {len(values)} trials apart: importance of each hyperparameter"
    )
    figure = _figure(title, 10, 1 + 0.45 * len(keys))
    axes = figure.subplots()
    bars = axes.barh(
        list(short_names(keys).values()), [shares[key] for key in keys], color=BLUE, height=0.6
    )
    axes.bar_label(bars, labels=[f"{shares[key]:.0%}" for key in keys], padding=4)
    axes.xaxis.set_visible(False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    return figure


def parallel_coordinates(study: optuna.Study, metric: str) -> Figure:
    """One line for each complete trial, through its params to its value."""
    found = [row for row in reversed(rows(study)) if row.rank]
    sign = direction_sign(study)
    if not found:
        return _words("Hyperparameters and value of each trial", "No trial is complete yet.")
    keys = keys_of(found)
    window = _window(found, sign)
    names = short_names(keys)
    scales = {key: _scale(study, key) for key in keys}
    shade = ScalarMappable(Normalize(*window), colormaps["crest" if sign < 0 else "crest_r"])
    width = min(2.1 * len(keys) + 1.6, 12)
    figure = _figure(
        "Hyperparameters of the complete trials: the darker, the better", max(width, 6), 4.8
    )
    axes = figure.subplots()
    for row, value in zip(found, np.clip(_values(found), *window), strict=True):
        heights: list[Any] = [
            scales[key][0][row.params[key]] if key in row.params else math.nan for key in keys
        ]
        line = axes.plot([*heights, shade.norm(value)], color=shade.to_rgba(value), linewidth=1.8)[
            0
        ]
        if row.number == 0:
            line.set(color=RED, linestyle="--", linewidth=2.4, zorder=3, label="baseline")
    for place, (_, ticks) in enumerate(scales.values()):
        axes.axvline(place, color="black", linewidth=0.8)
        for height, text in ticks.items():
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
            axes.text(place - 0.03, height, text, ha="right", va="center", bbox=box)
    axes.set(xticks=range(len(keys)), xlim=(-0.4, len(keys)), ylim=(-0.02, 1.02))
    axes.set_xticklabels(list(names.values()))
    axes.yaxis.set_visible(False)
    axes.spines[:].set_visible(False)
    figure.colorbar(shade, ax=axes, pad=0, aspect=30, label=metric, format=_format(metric))
    _legend(figure, axes)
    return figure


def slices(study: optuna.Study, metric: str) -> Figure:
    """The value against each param, a panel for each."""
    found = rows(study)
    keys = keys_of(found)
    if not keys:
        return _words(f"{metric} against each hyperparameter", "No trial has started yet.")
    columns = min(len(keys), 4)
    lines = math.ceil(len(keys) / 4)
    title = f"{metric} against each hyperparameter: the darker, the later"
    figure = _figure(title, max(6.6, 2.9 * columns), 1 + 3 * lines)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    late = ScalarMappable(Normalize(0, max(1, *(row.number for row in found))), colormaps["crest"])
    for axes, key in zip(panels.flat, keys, strict=False):
        having = [row for row in found if key in row.params]
        (places, ticks) = _scale(study, key)
        window = _value_axis(axes, found, direction_sign(study), metric)
        _scatter(axes, having, [places[row.params[key]] for row in having], window, late)
        axes.set(xlim=(-0.06, 1.06), xlabel=short_names(keys)[key], xticks=list(ticks))
        axes.set_xticklabels(list(ticks.values()))
        if axes not in panels[:, 0]:
            axes.set_ylabel("")
    for axes in panels.flat[len(keys) :]:
        axes.set_axis_off()
    figure.colorbar(
        late, ax=panels, aspect=30, pad=0.01, label="trial", ticks=MaxNLocator(6, integer=True)
    )
    _legend(figure, panels[0, 0])
    return figure


def learning_curves(study: optuna.Study, metric: str) -> Figure:
    """Every trial's value by epoch: all of them, and the best from close up."""
    found = rows(study)
    curves = {trial.number: finite_values(trial) for trial in study.get_trials(deepcopy=False)}
    if not any(curves.values()):
        return _words(f"{metric} by epoch", "No trial has ended an epoch yet.")
    figure = _figure(_headline(found, metric), 10, 4.8)
    whole, close = figure.subplots(1, 2)
    for axes in (whole, close):
        for row in reversed([row for row in found if curves[row.number]]):
            epochs = curves[row.number]
            axes.plot(list(epochs), list(epochs.values()), markevery=[-1], **_curve_style(row))
        _value_axis(axes, found, direction_sign(study), metric)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    whole.autoscale(axis="y")
    close.set(title="close-up", ylabel="")
    _legend(figure, whole)
    return figure


def confusion_difference(confusions: ConfusionMatrices) -> Figure:
    """Best minus baseline in each cell; the colour says whether that is better, wherever it
    stands.
    """
    figure = _figure("Confusions on validation: best config minus baseline", 7.4, 6.4)
    axes = figure.subplots()
    form = "{:+.0f}" if confusions.runs == 1 else "{:+.1f}"
    texts = [
        ["" if abs(each) < 0.05 else form.format(each) for each in row]
        for row in confusions.difference
    ]
    limit = max(1.0, float(np.abs(np.where(np.eye(10, dtype=bool), 0, confusions.gain)).max()))
    sns.heatmap(
        confusions.gain,
        ax=axes,
        annot=np.array(texts),
        fmt="",
        cmap=sns.diverging_palette(40, 250, s=90, l=55, as_cmap=True),
        vmin=-limit,
        vmax=limit,
        square=True,
        linewidths=0.5,
        annot_kws={"size": 8},
        cbar_kws={
            "label": "images that are better (blue) or worse (orange)",
            "shrink": 0.8,
            "extend": "both",
        },
    )
    axes.tick_params(axis="y", rotation=0)
    changes = confusions.format_changes()
    axes.set(xlabel="\n".join(["predicted digit", "", *changes]), ylabel="true digit")
    mean = f"; means over {confusions.runs} runs each" if confusions.runs > 1 else ""
    axes.set_title(f"on the diagonal more is better, beside it fewer{mean}", fontsize=10)
    return figure


def _headline(found: Sequence[Row], metric: str) -> str:
    best = found[0] if found and found[0].rank else None
    if best is None:
        return f"{metric}: no trial is complete yet"
    compared = best.number > 0 and best.delta is not None
    versus = (
        f", {format_difference(best.delta or 0, metric)} against the baseline" if compared else ""
    )
    return f"{metric}: {best.name} is the best with {format_metric(best.value, metric)}{versus}"


def _figure(title: str, width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    figure.suptitle(title, fontsize=12)
    return figure


def _words(title: str, text: str) -> Figure:
    figure = _figure(title, 10, 2)
    figure.text(0.5, 0.4, text, ha="center", fontsize=11)
    return figure


def _legend(figure: Figure, axes: Axes) -> None:
    lines = {
        line.get_label(): line
        for line in axes.get_lines()
        if not str(line.get_label()).startswith("_")
    }
    figure.legend(handles=list(lines.values()), loc="outside lower center", ncols=5, frameon=False)


def _format(metric: str) -> Formatter:
    percent = FuncFormatter(lambda value, _: f"{100 * value:.4g}%")
    return percent if metric.endswith("accuracy") else ScalarFormatter(useOffset=False)


def _values(found: Sequence[Row]) -> np.ndarray:
    return np.array([math.nan if row.value is None else row.value for row in found])


def _window(found: Sequence[Row], sign: int) -> tuple[float, float]:
    """From the best value to the worst complete one, or four times as far as the median: losers
    hide no differences.
    """
    values = sign * _values(
        [row for row in found if row.rank] or [row for row in found if row.value is not None]
    )
    if len(values) == 0:
        return 0.0, 1.0
    best = values.min()
    worst = min(values.max(), best + 4 * (np.median(values) - best))
    margin = 0.06 * (worst - best) or 0.01 * abs(best) or 0.01
    low, high = sorted((sign * (best - margin), sign * (worst + margin)))
    return float(low), float(high)


def _value_axis(axes: Axes, found: Sequence[Row], sign: int, metric: str) -> tuple[float, float]:
    window = _window(found, sign)
    axes.set(ylim=window, ylabel=metric)
    axes.yaxis.set_major_formatter(_format(metric))
    axes.grid(alpha=0.3)
    return window


def _scatter(
    axes: Axes,
    found: Sequence[Row],
    xs: Sequence[float],
    window: tuple[float, float],
    late: ScalarMappable | None = None,
) -> None:
    """Complete trials filled, pruned ones open, what failed on the bottom; a triangle is beyond
    the window.
    """
    for row, x in zip(found, xs, strict=True):
        if row.value is not None:
            y = min(max(row.value, window[0]), window[1])
            marker = "o" if y == row.value else "v" if y > row.value else "^"
            label = row.state if y == row.value else f"{row.state}, off the axis"
            color = late.to_rgba(np.array(row.number)) if late else BLUE
            face, edge = (color, color) if row.rank else ("none", GREY)
            dot = axes.plot(x, y, marker, mfc=face, mec=edge, clip_on=False, label=label)[0]
            if row.number == 0:
                dot.set(marker="D", markeredgecolor="black")
                axes.axhline(y, color="black", linestyle="--", linewidth=1.2, label="baseline")
        elif row.state not in ("running", "interrupted"):
            axes.plot(
                x,
                0.04,
                "x",
                color=RED,
                transform=axes.get_xaxis_transform(),
                label="diverged or failed",
            )


def _scale(study: optuna.Study, key: str) -> tuple[dict[Any, float], dict[float, str]]:
    """Where a param's values lie in what was searched, from 0 to 1, and where its ticks, with
    their labels.
    """
    having = [trial for trial in study.get_trials(deepcopy=False) if key in trial.params]
    searched = having[-1].distributions[key]
    used = [trial.params[key] for trial in having]
    if isinstance(searched, CategoricalDistribution):
        last = max(len(searched.choices) - 1, 1)
        choices = {choice: place / last for place, choice in enumerate(searched.choices)}
        return choices, {place: str(choice) for choice, place in choices.items()}
    assert isinstance(searched, FloatDistribution | IntDistribution)
    low = min(searched.low, *used)
    high = max(searched.high, *used)
    step = searched.step or math.inf
    norm: Normalize = (LogNorm if searched.log else Normalize)(low, high)
    locator: Locator = MaxNLocator(5)
    if searched.log:
        locator = LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,))
    elif step <= high - low <= 6 * step:
        locator = FixedLocator(
            [low + step * count for count in range(7) if low + step * count <= high]
        )
    ticks = [
        tick for tick in locator.tick_values(low, high) if low - 1e-9 <= tick <= high + 1e-9
    ] or [low]
    return {value: float(norm(value)) for value in used}, {
        float(norm(tick)): f"{tick:g}" for tick in ticks
    }


def _curve_style(row: Row) -> dict[str, Any]:
    if row.number == 0:
        return {
            "color": "black",
            "linestyle": "--",
            "linewidth": 1.8,
            "zorder": 4,
            "marker": ".",
            "label": "baseline",
        }
    if row.rank == 1:
        return {
            "color": ORANGE,
            "linewidth": 2.4,
            "zorder": 3,
            "marker": ".",
            "label": f"{row.name}, the best",
        }
    styles: dict[str, dict[str, Any]] = {
        "complete": {"color": BLUE, "alpha": 0.45, "marker": ".", "label": "complete"},
        "pruned": {
            "color": GREY,
            "alpha": 0.7,
            "marker": "o",
            "markerfacecolor": "none",
            "label": "pruned",
        },
    }
    styles |= {
        state: {"color": BLUE, "linestyle": ":", "marker": ".", "label": state}
        for state in ("running", "interrupted")
    }
    return {"linewidth": 1.0} | styles.get(
        row.state, {"color": RED, "marker": "x", "label": "diverged or failed"}
    )
