"""Draws the figures of a run; none needs a display.

The margins are fixed: to find them, Matplotlib's layouts draw everything twice, and each trial
would wait for that.
"""

import numpy as np
import seaborn as sns
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from svhn_sweep.data.splits import Images, Labels
from svhn_sweep.figure_size import PAGE_DPI, PAGE_WIDTH
from svhn_sweep.training.evaluation import Evaluation
from svhn_sweep.training.result import TrainResult

TRAIN, VALIDATION = sns.color_palette("colorblind")[:2]


def samples(images: Images, labels: Labels) -> Figure:
    """Draws the first ten images with their labels, as the notebook does."""
    return _digit_grid(
        images[:10],
        [str(label) for label in labels[:10]],
        "First ten training images and their labels",
    )


def curves(result: TrainResult, title: str) -> Figure:
    """Draws accuracy and loss of training and validation by epoch, and marks the best epoch."""
    figure = Figure(figsize=(PAGE_WIDTH, 3.6), dpi=PAGE_DPI)
    margins = {"left": 0.105, "right": 0.98, "bottom": 0.235, "top": 0.89, "wspace": 0.33}
    epochs = range(1, len(result.history) + 1)
    for axes, metric in zip(
        figure.subplots(1, 2, gridspec_kw=margins), ("accuracy", "loss"), strict=True
    ):
        for split, color, marker in (("train", TRAIN, "o"), ("val", VALIDATION, "s")):
            values = [epoch[f"{split}/{metric}"] for epoch in result.history]
            label = "training" if split == "train" else "validation"
            axes.plot(
                epochs, values, color=color, marker=marker, markersize=3, linewidth=1.6, label=label
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel(metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(0.5, max(len(result.history), 1) + 0.5)
        axes.grid(alpha=0.3)
        if result.best_epoch:
            best = result.history[result.best_epoch - 1]
            note = f"best validation accuracy {best['val/accuracy']:.2%}, epoch {result.best_epoch}"
            axes.axvline(result.best_epoch, color="0.5", linewidth=1, linestyle=":", label=note)
    figure.axes[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="lower center", ncols=3, frameon=False
    )
    figure.suptitle(title, fontsize=12)
    return figure


def confusion_heatmap(evaluation: Evaluation, title: str) -> Figure:
    """Draws the confusion matrix: counts as text, and the share of the true digit as colour."""
    figure = Figure(figsize=(PAGE_WIDTH, 5.8), dpi=PAGE_DPI)
    axes = figure.add_axes((0.15, 0.09, 0.67, 0.8))
    colour_bar = figure.add_axes((0.845, 0.17, 0.03, 0.64))
    counts = evaluation.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    sns.heatmap(
        shares,
        ax=axes,
        annot=counts,
        fmt="d",
        cmap="Blues",
        norm=Normalize(0, 1),
        linewidths=0.5,
        annot_kws={"size": 8},
        cbar_ax=colour_bar,
        cbar_kws={"label": "share of the true digit", "format": PercentFormatter(1, decimals=0)},
    )
    axes.set_yticklabels(
        [f"{digit}  ({recall:.0%})" for digit, recall in enumerate(evaluation.recalls)]
    )
    axes.tick_params(axis="y", rotation=0)
    axes.set_xlabel("predicted digit")
    axes.set_ylabel("true digit (recall)")
    axes.set_title(title, fontsize=11)
    return figure


def mistakes(images: Images, evaluation: Evaluation, title: str) -> Figure:
    """Draws the wrong predictions with the highest confidence, at most twenty, highest first."""
    predictions = evaluation.predictions
    wrong = np.flatnonzero(predictions != evaluation.labels)
    confidences = evaluation.probabilities.max(axis=1)
    surest = wrong[np.argsort(-confidences[wrong])][:20]
    if len(surest) == 0:
        figure = Figure(figsize=(10, 3.1), dpi=PAGE_DPI)
        figure.suptitle(title, fontsize=11)
        figure.text(0.5, 0.45, "no mistakes", ha="center")
        return figure
    notes = [
        f"{evaluation.labels[index]} \N{RIGHTWARDS ARROW} {predictions[index]}\n"
        f"{confidences[index]:.1%}"
        for index in surest
    ]
    return _digit_grid(images[surest], notes, title)


def _digit_grid(images: Images, notes: list[str], title: str) -> Figure:
    """Rows of ten images with a note above each; one Axes for each would take five times as long.

    The unit of the axes is the distance between two images.
    """
    rows = -(-len(images) // 10)
    lines = notes[0].count("\n") + 1
    row_height = 1.1 + 0.18 * lines
    grid_height = rows * row_height
    figure = Figure(figsize=(10, grid_height + 0.35), dpi=PAGE_DPI)
    axes = figure.add_axes((0.01, 0, 0.98, grid_height / (grid_height + 0.35)))
    for index, (image, note) in enumerate(zip(images, notes, strict=True)):
        left = index % 10
        bottom = (rows - 1 - index // 10) * row_height
        extent = (left + 0.05, left + 0.95, bottom + 0.05, bottom + 0.95)
        axes.imshow(
            image[..., 0], cmap="gray", vmin=0, vmax=255, interpolation="nearest", extent=extent
        )
        axes.text(left + 0.5, bottom + 1, note, ha="center", va="bottom", fontsize=9)
    axes.set(xlim=(0, 10), ylim=(0, grid_height))
    axes.set_axis_off()
    figure.suptitle(title, fontsize=11, y=0.99, va="top")
    return figure
