"""Draws the figures of a study.

Each function draws one figure. None needs a display, and none needs a finished trial.
"""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
import seaborn as sns
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import TrialState, create_trial

from svhn_sweep.config.short_names import short_names
from svhn_sweep.figure_size import PAGE_WIDTH
from svhn_sweep.sweep.plan.formatting import format_difference, format_metric
from svhn_sweep.sweep.report.chart_axes import (
    BLUE,
    ORANGE,
    RED,
    add_legend,
    curve_style,
    message_figure,
    metric_formatter,
    new_figure,
    scatter_trials,
    set_value_axis,
    unit_scale,
    value_limits,
)
from svhn_sweep.sweep.report.leaderboard import Row, make_rows, param_keys
from svhn_sweep.sweep.report.pareto_figure import value_by_size
from svhn_sweep.sweep.selection.confusion_differences import ConfusionMatrices
from svhn_sweep.sweep.study.trial_values import direction_sign, finite_values

TOP_TRIALS = 5  # at least, whose hyperparameters are compared with those of all trials
MAX_LEVEL_LABELS = 7  # of parallel coordinates: more would overlap


def save_all(
    study: optuna.Study, metric: str, confusions: ConfusionMatrices | None, folder: Path
) -> list[Path]:
    """Writes each figure to the folder, named as its function, at any stage of the study.

    Args:
        study: The search.
        metric: The name of the sweep's metric.
        confusions: Of the best config and the baseline; None leaves their figure out.
        folder: Receives the PNG files; created if it does not exist.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    functions = (history, importances, parallel_coordinates, slices, learning_curves, value_by_size)
    figures = {function.__name__: function(study, metric) for function in functions}
    if confusions is not None:
        figures[confusion_difference.__name__] = confusion_difference(confusions)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")
    return [folder / f"{name}.png" for name in figures]


def history(study: optuna.Study, metric: str) -> Figure:
    """Draws each trial's value by its number, and the best value so far."""
    trial_rows = make_rows(study)
    sign = direction_sign(study)
    if not trial_rows:
        return message_figure(f"{metric} of each trial", "No trial has started yet.")
    figure = new_figure(_headline(trial_rows, metric), PAGE_WIDTH, 4)
    axes = figure.subplots()
    complete = sorted((row for row in trial_rows if row.rank), key=lambda row: row.number)
    if complete:
        values = sign * np.array([row.value for row in complete])
        best = sign * np.minimum.accumulate(values)
        numbers = [row.number for row in complete]
        axes.step(numbers, best, where="post", color=ORANGE, label="best so far")
    limits = set_value_axis(axes, trial_rows, sign, metric)
    scatter_trials(axes, trial_rows, [row.number for row in trial_rows], limits)
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    add_legend(figure, axes)
    return figure


def importances(study: optuna.Study, metric: str) -> Figure:
    """Draws how much each hyperparameter separates the best trials from all trials.

    PED-ANOVA (https://arxiv.org/abs/2304.10255) is the one of Optuna's evaluators that handles log
    scales and conditions; it draws no random numbers. The best trials are a tenth of all that are
    complete or pruned, but at least five, as its documentation asks, and all complete.
    """
    ranked = _pruned_last(study)
    trials = ranked.get_trials(deepcopy=False)
    values = sorted(trial.value for trial in trials if trial.value is not None)
    n_complete = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    top = min(max(math.ceil(len(values) / 10), TOP_TRIALS), n_complete)
    if top < TOP_TRIALS or len(values) < 2 * TOP_TRIALS or values[top - 1] == values[-1]:
        text = (
            f"This takes {2 * TOP_TRIALS} complete or pruned trials, at least {TOP_TRIALS} of them "
            f"complete and not all alike; so far {len(values)}."
        )
        return message_figure("Importance of each hyperparameter: too early to say", text)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=top / len(values))
    with warnings.catch_warnings():
        # Optuna's, if only one trial has a key that others lack; it would stand in the terminal.
        warnings.filterwarnings("ignore", message="Some regimes for parameter")
        shares = optuna.importance.get_param_importances(ranked, evaluator=evaluator)
    keys = sorted(shares, key=lambda key: (shares[key], key))
    title = (
        f"What sets the best {top} of {len(values)} trials apart: importance of each hyperparameter"
    )
    figure = new_figure(title, 10, 1 + 0.45 * len(keys))
    axes = figure.subplots()
    bars = axes.barh(
        list(short_names(keys).values()), [shares[key] for key in keys], color=BLUE, height=0.6
    )
    axes.bar_label(bars, labels=[f"{shares[key]:.0%}" for key in keys], padding=4)
    axes.xaxis.set_visible(False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    return figure


def _pruned_last(study: optuna.Study) -> optuna.Study:
    """Returns a study to be minimized, with the complete and the pruned trials.

    Pruned ones have a value worse than all others, since only the order counts: they were worse
    than others after as many epochs. Optuna's evaluators leave them out, and so most of a sweep.
    """
    sign = direction_sign(study)
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    values = {
        trial.number: sign * trial.value
        for trial in finished
        if trial.state == TrialState.COMPLETE and trial.value is not None
    }
    worst = max(values.values(), default=0.0) + 1
    ranked = optuna.create_study()
    for trial in finished:
        value = values.get(trial.number, worst)
        copy = create_trial(params=trial.params, distributions=trial.distributions, value=value)
        ranked.add_trial(copy)
    return ranked


def parallel_coordinates(study: optuna.Study, metric: str) -> Figure:
    """Draws one line for each complete trial, through its params to its value."""
    trial_rows = [row for row in reversed(make_rows(study)) if row.rank]
    sign = direction_sign(study)
    if not trial_rows:
        return message_figure(
            "Hyperparameters and value of each trial", "No trial is complete yet."
        )
    keys = param_keys(trial_rows)
    limits = value_limits(trial_rows, sign)
    names = short_names(keys)
    scales = {key: unit_scale(study, key) for key in keys}
    norm = Normalize(*limits)
    shade = ScalarMappable(norm, colormaps["crest" if sign < 0 else "crest_r"])
    width = min(2.1 * len(keys) + 1.6, 12)
    figure = new_figure(
        "Hyperparameters of the complete trials: the darker, the better", max(width, 6), 4.8
    )
    axes = figure.subplots()
    values = np.clip(np.array([row.value for row in trial_rows]), *limits)
    for row, value in zip(trial_rows, values, strict=True):
        heights = [
            scales[key].positions[row.params[key]] if key in row.params else math.nan
            for key in keys
        ]
        heights.append(float(norm(value)))
        (line,) = axes.plot(heights, color=shade.to_rgba(value), linewidth=1.8)
        if row.is_baseline:
            line.set(color=RED, linestyle="--", linewidth=2.4, zorder=3, label="baseline")
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
    for x, scale in enumerate(scales.values()):
        axes.axvline(x, color="black", linewidth=0.8)
        for height, text in scale.ticks.items():
            axes.text(x - 0.03, height, text, ha="right", va="center", bbox=box)
    axes.set(xticks=range(len(keys)), xlim=(-0.4, len(keys)), ylim=(-0.02, 1.02))
    is_crowded = len(keys) > MAX_LEVEL_LABELS
    axes.set_xticklabels(
        list(names.values()),
        rotation=30 if is_crowded else 0,
        ha="right" if is_crowded else "center",
    )
    axes.yaxis.set_visible(False)
    axes.spines[:].set_visible(False)
    figure.colorbar(shade, ax=axes, pad=0, aspect=30, label=metric, format=metric_formatter(metric))
    add_legend(figure, axes)
    return figure


def slices(study: optuna.Study, metric: str) -> Figure:
    """Draws the value against each param, in a panel for each."""
    trial_rows = make_rows(study)
    keys = param_keys(trial_rows)
    if not keys:
        return message_figure(f"{metric} against each hyperparameter", "No trial has started yet.")
    columns = min(len(keys), 4)
    n_rows = math.ceil(len(keys) / 4)
    title = f"{metric} against each hyperparameter: the darker, the later"
    figure = new_figure(title, max(6.6, 2.9 * columns), 1 + 3 * n_rows)
    panels = figure.subplots(n_rows, columns, sharey=True, squeeze=False)
    last_number = max(1, *(row.number for row in trial_rows))
    number_colors = ScalarMappable(Normalize(0, last_number), colormaps["crest"])
    for axes, key in zip(panels.flat, keys, strict=False):
        rows_with_key = [row for row in trial_rows if key in row.params]
        scale = unit_scale(study, key)
        limits = set_value_axis(axes, trial_rows, direction_sign(study), metric)
        xs = [scale.positions[row.params[key]] for row in rows_with_key]
        scatter_trials(axes, rows_with_key, xs, limits, number_colors)
        axes.set(xlim=(-0.06, 1.06), xlabel=short_names(keys)[key], xticks=list(scale.ticks))
        axes.set_xticklabels(list(scale.ticks.values()))
        if axes not in panels[:, 0]:
            axes.set_ylabel("")
    for axes in panels.flat[len(keys) :]:
        axes.set_axis_off()
    ticks = MaxNLocator(6, integer=True)
    figure.colorbar(number_colors, ax=panels, aspect=30, pad=0.01, label="trial", ticks=ticks)
    add_legend(figure, panels[0, 0])
    return figure


def learning_curves(study: optuna.Study, metric: str) -> Figure:
    """Draws every trial's value by epoch: all of them, and a close-up of the best values."""
    trial_rows = make_rows(study)
    curves = {trial.number: finite_values(trial) for trial in study.get_trials(deepcopy=False)}
    if not any(curves.values()):
        return message_figure(f"{metric} by epoch", "No trial has ended an epoch yet.")
    figure = new_figure(_headline(trial_rows, metric), PAGE_WIDTH, 4)
    whole, close_up = figure.subplots(1, 2)
    for axes in (whole, close_up):
        for row in reversed([row for row in trial_rows if curves[row.number]]):
            epochs = curves[row.number]
            axes.plot(list(epochs), list(epochs.values()), markevery=[-1], **curve_style(row))
        set_value_axis(axes, trial_rows, direction_sign(study), metric)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    whole.autoscale(axis="y")
    close_up.set(title="close-up", ylabel="")
    add_legend(figure, whole)
    return figure


def confusion_difference(confusions: ConfusionMatrices) -> Figure:
    """Draws a heatmap of best config minus baseline, row = true digit, column = predicted digit.

    Blue is better: more images on the diagonal, fewer beside it.
    """
    figure = new_figure("Confusions on validation: best config minus baseline", PAGE_WIDTH, 6)
    axes = figure.subplots()
    form = "{:+.0f}" if confusions.runs == 1 else "{:+.1f}"
    texts = [
        ["" if abs(count) < 0.05 else form.format(count) for count in row]
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


def _headline(trial_rows: Sequence[Row], metric: str) -> str:
    best = trial_rows[0] if trial_rows and trial_rows[0].rank else None
    if best is None:
        return f"{metric}: no trial is complete yet"
    compared = not best.is_baseline and best.delta is not None
    versus = (
        f", {format_difference(best.delta or 0, metric)} against the baseline" if compared else ""
    )
    return f"{metric}: {best.name} is the best with {format_metric(best.value, metric)}{versus}"
