from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from svhn_sweep.training import figures
from svhn_sweep.training.evaluation import Evaluation
from svhn_sweep.training.result import TrainResult

LABELS = (np.arange(40) % 10).astype(np.uint8)
IMAGES = np.random.default_rng(0).uniform(0, 255, (40, 32, 32, 1)).astype(np.float32)
EPOCH = {"train/loss": 1.0, "train/accuracy": 0.5, "val/loss": 1.1, "val/accuracy": 0.4}
LONG_TITLE = "model2, seed 1000000, on SVHN_single_grey_from_stanford.h5"


def evaluation(predictions: np.ndarray) -> Evaluation:
    return Evaluation("test", np.eye(10, dtype=np.float32)[predictions], LABELS)


@pytest.mark.parametrize(
    "figure",
    [
        figures.samples(IMAGES, LABELS),
        figures.curves(TrainResult(history=[EPOCH] * 100), LONG_TITLE),
        figures.curves(TrainResult(history=[{**EPOCH, "val/loss": 12345.6}] * 3), LONG_TITLE),
        figures.confusion_heatmap(
            evaluation(LABELS), f"{LONG_TITLE}\nvalidation: accuracy 100.00%, macro F1 1.000"
        ),
        figures.mistakes(IMAGES, evaluation(np.roll(LABELS, 1)), "Surest mistakes on validation"),
    ],
)
def test_nothing_exceeds_the_fixed_margins(figure: Figure) -> None:
    inches = figure.get_tightbbox()
    assert min(inches.x0, inches.y0) >= 0
    assert inches.x1 <= figure.get_figwidth()
    assert inches.y1 <= figure.get_figheight()


@pytest.mark.parametrize(
    "figure",
    [
        figures.samples(IMAGES, LABELS),
        figures.curves(TrainResult(history=[EPOCH] * 3), "three epochs"),
        figures.curves(TrainResult(history=[EPOCH]), "one epoch"),
        figures.curves(TrainResult(), "diverged in the first epoch"),
        figures.confusion_heatmap(evaluation(LABELS), "all right"),
        figures.confusion_heatmap(evaluation(np.zeros(40, int)), "all zero"),
        figures.mistakes(IMAGES, evaluation(LABELS), "no mistakes"),
        figures.mistakes(IMAGES, evaluation(np.roll(LABELS, 1)), "all wrong"),
    ],
)
def test_a_figure_is_not_empty(figure: Figure, tmp_path: Path) -> None:
    figure.savefig(tmp_path / "figure.png")
    pixels = np.asarray(Image.open(tmp_path / "figure.png").convert("L"))
    assert pixels.shape[1] > 600
    assert (pixels < 128).mean() > 0.001  # ink, not empty axes


def test_curves_have_both_splits_and_the_best_epoch() -> None:
    history = [EPOCH, {**EPOCH, "val/accuracy": 0.9}, EPOCH]
    accuracy, loss = figures.curves(TrainResult(history=history), "").axes
    _, labels = accuracy.get_legend_handles_labels()
    assert labels == ["training", "validation", "best validation accuracy 90.00%, epoch 2"]
    assert np.array_equal(accuracy.lines[1].get_ydata(), [0.4, 0.9, 0.4])
    assert np.array_equal(loss.lines[0].get_xdata(), [1, 2, 3])


def test_the_heatmap_has_counts_and_recall() -> None:
    heatmap = figures.confusion_heatmap(evaluation(np.where(LABELS == 3, 5, LABELS)), "").axes[0]
    cells = np.array([text.get_text() for text in heatmap.texts]).reshape(10, 10)
    assert cells[3, 5] == "4"
    assert cells[3, 3] == "0"
    assert heatmap.get_yticklabels()[3].get_text() == "3  (0%)"


def test_mistakes_are_sorted_by_confidence() -> None:
    probabilities = np.full((40, 10), 0.01, dtype=np.float32)
    probabilities[:, 0] = np.linspace(0.5, 0.9, 40)
    figure = figures.mistakes(IMAGES, Evaluation("test", probabilities, LABELS), "")
    notes = [text.get_text() for text in figure.axes[0].texts]
    assert notes[0] == "9 \N{RIGHTWARDS ARROW} 0\n90.0%"
    assert len(notes) == 20
    assert not any(note.startswith("0 ") for note in notes)
