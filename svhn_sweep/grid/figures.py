"""Draws the learning curves of a grid's configs."""

import textwrap
from collections.abc import Mapping, Sequence
from statistics import mean

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from svhn_sweep.figure_size import PAGE_DPI, PAGE_WIDTH
from svhn_sweep.sweep.plan.formatting import format_items

MAX_CONFIGS = 8  # more curves cannot be told apart
LABEL_CHARACTERS = 80


def learning_curves(curves: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Draws the mean validation accuracy of each config by epoch.

    The bands are one sample standard deviation over the seeds to either side. Of more than
    `MAX_CONFIGS`, the first config and those with the best means are drawn.

    Args:
        curves: The accuracy by epoch, in 0..1, of each run of each config; every config has a run,
            and its runs have the same number of epochs.
    """
    drawn = _choose(curves)
    n_lines = len(drawn)
    figure = Figure(figsize=(PAGE_WIDTH, 3.9 + 0.22 * n_lines), layout="constrained", dpi=PAGE_DPI)
    axes = figure.subplots()
    for color, config in zip(sns.color_palette("colorblind", n_lines), drawn, strict=True):
        values = np.array(curves[config])
        epochs = np.arange(1, values.shape[1] + 1)
        center = values.mean(axis=0)
        label = textwrap.shorten(config, LABEL_CHARACTERS, placeholder=" ...")
        runs = format_items(len(values), "seed")
        axes.plot(
            epochs,
            center,
            color=color,
            marker="o" if len(epochs) < 3 else "",
            linewidth=1.8,
            label=f"{label} ({runs})",
        )
        if len(values) > 1:
            spread = values.std(axis=0, ddof=1)
            axes.fill_between(epochs, center - spread, center + spread, color=color, alpha=0.18)
    axes.set(xlabel="epoch", ylabel="val/accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
    if drawn:
        figure.legend(loc="outside lower left", ncols=1, frameon=False)
    omitted = len(curves) - n_lines
    which = f"; {omitted} of {len(curves)} configs are not drawn" if omitted else ""
    figure.suptitle(f"Mean over seeds, ± one standard deviation{which}", fontsize=12)
    return figure


def _choose(curves: Mapping[str, Sequence[Sequence[float]]]) -> list[str]:
    """Returns the configs to draw, in their order."""
    configs = list(curves)
    others = sorted(configs[1:], key=lambda config: mean(map(max, curves[config])))[::-1]
    chosen = [*configs[:1], *others[: MAX_CONFIGS - 1]]
    return [config for config in configs if config in chosen]
