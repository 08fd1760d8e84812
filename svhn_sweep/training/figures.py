"""The pictures of a run. Each function draws one figure; none needs a display.

Margins are fixed: to find them, Matplotlib's layouts draw everything a second time, which each
trial would wait for.
"""

import numpy as np
import seaborn as sns
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from svhn_sweep.data.splits import Images, Labels
from svhn_sweep.training.evaluation import DIGITS, Evaluation
from svhn_sweep.training.fit import TrainResult

TRAIN, VALIDATION = sns.color_palette("colorblind")[:2]
DPI = 100  # MLflow shows a picture pixel by pixel: 1,000 of them fit on its page


def samples(images: Images, labels: Labels) -> Figure:
    """The first ten images with their labels, as the notebook shows them."""
    return _digits(
        images[:10],
        [str(label) for label in labels[:10]],
        "First ten training images and their labels",
    )


def curves(result: TrainResult, title: str) -> Figure:
    """Accuracy and loss by epoch, training and validation, the best epoch marked."""
    figure = Figure(figsize=(10, 4.2), dpi=DPI)
    margins = {"left": 0.065, "right": 0.985, "bottom": 0.205, "top": 0.905, "wspace": 0.17}
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
    """Counts in the cells; the colour is the share of the row, so rare digits are as readable as
    frequent ones.
    """
    figure = Figure(figsize=(6.6, 5.8), dpi=DPI)
    axes = figure.add_axes((0.15, 0.09, 0.67, 0.8))
    bar = figure.add_axes((0.845, 0.17, 0.03, 0.64))
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
        cbar_ax=bar,
        cbar_kws={"label": "share of the true digit", "format": PercentFormatter(1, decimals=0)},
    )
    axes.set_yticklabels(
        [
            f"{digit}  ({recall:.0%})"
            for digit, recall in zip(DIGITS, evaluation.recall, strict=True)
        ]
    )
    axes.tick_params(axis="y", rotation=0)
    axes.set_xlabel("predicted digit")
    axes.set_ylabel("true digit (recall)")
    axes.set_title(title, fontsize=11)
    return figure


def mistakes(images: Images, evaluation: Evaluation, title: str) -> Figure:
    """The wrong predictions that the model was surest of, at most twenty, surest first."""
    wrong = np.flatnonzero(evaluation.predictions != evaluation.labels)
    surest = wrong[np.argsort(-evaluation.probabilities[wrong].max(axis=1))][:20]
    if len(surest) == 0:
        figure = Figure(figsize=(10, 3.1), dpi=DPI)
        figure.suptitle(title, fontsize=11)
        figure.text(0.5, 0.45, "no mistakes", ha="center")
        return figure
    predicted = evaluation.predictions[surest]
    sureness = evaluation.probabilities[surest].max(axis=1)
    notes = [
        f"{label} \N{RIGHTWARDS ARROW} {wrong}\n{confidence:.1%}"
        for label, wrong, confidence in zip(
            evaluation.labels[surest], predicted, sureness, strict=True
        )
    ]
    return _digits(images[surest], notes, title)


def _digits(images: Images, notes: list[str], title: str) -> Figure:
    """Rows of ten digits, each below its note: in one pair of axes, because one for each takes
    five times as long.
    """
    rows = -(-len(images) // 10)
    lines = notes[0].count("\n") + 1
    height = 1.1 + 0.18 * lines  # of a row, in digits, which are an inch less their margins
    figure = Figure(figsize=(10, rows * height + 0.35), dpi=DPI)
    axes = figure.add_axes((0.01, 0, 0.98, rows * height / (rows * height + 0.35)))
    for index, (image, note) in enumerate(zip(images, notes, strict=True)):
        left = index % 10
        bottom = (rows - 1 - index // 10) * height
        extent = (left + 0.05, left + 0.95, bottom + 0.05, bottom + 0.95)
        axes.imshow(
            image[..., 0], cmap="gray", vmin=0, vmax=255, interpolation="nearest", extent=extent
        )
        axes.text(left + 0.5, bottom + 1, note, ha="center", va="bottom", fontsize=9)
    axes.set(xlim=(0, 10), ylim=(0, rows * height))
    axes.set_axis_off()
    figure.suptitle(title, fontsize=11, y=0.99, va="top")
    return figure
