"""The picture of what speed.py measured on one machine."""

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator, PercentFormatter
from speed_results import MODELS, Results, per_hour, plain_found, precision_of, values_of

OURS, PLAIN = sns.color_palette("colorblind")[:2]


def figure(results: Results) -> Figure:
    """Images per CPU second, trials per hour, and what a sweep has found by when."""
    drawn = Figure(figsize=(12, 3.8), layout="constrained", dpi=100)
    steps, trials, sweep = drawn.subplots(1, 3, width_ratios=[1, 1, 1.3])
    measured = [results["steps"][model] for model in MODELS]
    images = [
        [median(values_of(each[name], "images_per_cpu_second")) for each in measured]
        for name in ("plain", f"{precision_of(results)}, two at once")
    ]
    _bars(steps, "training images per CPU second", *images)
    hours = [per_hour(results[part]) for part in ("trials1", "trials2")]
    _bars(
        trials,
        "full-length trials per hour",
        [each[0] for each in hours],
        [each[1] for each in hours],
    )
    for name, color, found in (
        ("plain script", PLAIN, plain_found(results["plain1"])),
        ("svhn_sweep", OURS, results["sweep1"]["found"]),
    ):
        minutes = [entry[0] / 60 for entry in found]
        accuracies = np.maximum.accumulate([entry[1] for entry in found])
        sweep.step(minutes, accuracies, where="post", color=color, label=name, linewidth=1.8)
    highest = max(line.get_ydata().max() for line in sweep.lines)
    sweep.set(
        title="the same 24 trials of model1: best so far",
        xlabel="minutes",
        ylim=(highest - 0.04, highest + 0.004),
    )
    sweep.yaxis.set_major_locator(MultipleLocator(0.01))
    sweep.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    sweep.grid(alpha=0.3)
    sweep.legend(frameon=False, loc="lower right")
    return drawn


def _bars(axes: Any, title: str, plain: Sequence[float], ours: Sequence[float]) -> None:
    for at, (name, color, values) in enumerate(
        (("plain script", PLAIN, plain), ("svhn_sweep", OURS, ours))
    ):
        bars = axes.bar(
            [index + 0.4 * at for index in range(len(values))],
            values,
            0.38,
            color=color,
            label=name,
        )
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=9)
    axes.set_xticks([index + 0.2 for index in range(len(MODELS))], MODELS)
    axes.set_title(title)
    axes.margins(y=0.12)
    sns.despine(ax=axes)
    axes.legend(frameon=False, fontsize=8)
