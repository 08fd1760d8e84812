"""Evaluates a model on one split."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    confusion_matrix,
    f1_score,
    recall_score,
)

from svhn_sweep.config.data_sources import CLASSES
from svhn_sweep.data.splits import Images, Labels
from svhn_sweep.training.model import INPUT_SHAPE

DIGITS = list(range(CLASSES))
BATCH_SIZE = 128  # images
CALIBRATION_BINS = 15

Predict = Callable[[Images], NDArray[np.float32]]


@dataclass(frozen=True)
class Evaluation:
    """A model's predictions on one split, and the metrics of them.

    Attributes:
        split: validation or test.
        probabilities: float32 [N, 10]; each row sums to 1.
        labels: The true digits, uint8 [N].
    """

    split: str
    probabilities: NDArray[np.float32]
    labels: Labels

    @property
    def predictions(self) -> NDArray[np.int64]:
        """The most probable digit of each image, int64 [N]."""
        return np.asarray(np.argmax(self.probabilities, axis=1), dtype=np.int64)

    @property
    def loss(self) -> float:
        """The mean categorical cross-entropy; Keras clips probabilities to at least 1e-7."""
        truth = keras.utils.to_categorical(self.labels, CLASSES)
        losses = keras.losses.categorical_crossentropy(truth, self.probabilities)
        return float(keras.ops.mean(losses))

    @property
    def accuracy(self) -> float:
        """The fraction of the images that are predicted correctly, 0..1."""
        return float(accuracy_score(self.labels, self.predictions))

    @property
    def macro_f1(self) -> float:
        """The mean of the digits' F1 scores, 0..1; 0 for a digit without a correct prediction."""
        return float(
            f1_score(self.labels, self.predictions, labels=DIGITS, average="macro", zero_division=0)
        )

    @property
    def recalls(self) -> list[float]:
        """The recall of each digit, 0..1; 0 for a digit that the split lacks."""
        scores = recall_score(
            self.labels, self.predictions, labels=DIGITS, average=None, zero_division=0
        )
        return [float(score) for score in scores]

    @property
    def calibration_error(self) -> float:
        """The expected calibration error, 0..1: how far confidence and accuracy are apart.

        The images are divided into 15 bins of equal width by their highest probability. The error
        is the mean over the bins of |accuracy - mean confidence|, weighted by their images (Guo
        et al., On Calibration of Modern Neural Networks, 2017, equation 3).
        """
        confidence = self.probabilities.max(axis=1).astype(np.float64)
        right = self.predictions == self.labels
        bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
        gaps = np.bincount(bins, weights=right - confidence)
        return float(np.abs(gaps).sum() / len(self.labels))

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts, int64 [10, 10]: row = true digit, column = predicted digit."""
        matrix: NDArray[np.int64] = confusion_matrix(self.labels, self.predictions, labels=DIGITS)
        return matrix

    def write(self, folder: Path) -> list[str]:
        """Writes the confusion matrix as JSON and the classification report as text and JSON.

        Args:
            folder: The folder that gets `confusion_matrix` and `classification_report`.

        Returns:
            The paths of the files relative to the folder.
        """
        matrix = {
            "rows": "true digit",
            "columns": "predicted digit",
            "counts": self.confusion.tolist(),
        }
        report = partial(
            classification_report,
            self.labels,
            self.predictions,
            labels=DIGITS,
            zero_division=0,
        )
        contents = {
            f"confusion_matrix/{self.split}.json": json.dumps(matrix),
            f"classification_report/{self.split}.txt": report(digits=3),
            f"classification_report/{self.split}.json": json.dumps(
                report(output_dict=True), indent=2
            ),
        }
        for path, text in contents.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        return list(contents)


def predictor(model: keras.Model) -> Predict:
    """Returns a function that predicts with the weights that the model holds at each call.

    TensorFlow traces the model once, whatever the number of images. Keras' `predict` would trace it
    once for each of the steps that the fit puts into one call.

    Args:
        model: Takes raw pixels: from `build_model`, a `FastModel`, or a saved model.

    Returns:
        A function from images to float32 probabilities, [N, 10].
    """
    signature = [tf.TensorSpec((None, *INPUT_SHAPE), tf.float32)]
    probabilities = tf.function(
        lambda images: model(images, training=False), input_signature=signature
    )

    def predict(images: Images) -> NDArray[np.float32]:
        batches = [
            images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE)
        ]
        return np.concatenate([probabilities(batch).numpy() for batch in batches])

    return predict


def evaluate(predict: Predict, images: Images, labels: Labels, split: str) -> Evaluation:
    """Returns the evaluation of a model on a split.

    Args:
        predict: From `predictor`.
        images: The images of the split.
        labels: Their digits.
        split: validation or test.
    """
    return Evaluation(split, predict(images), labels)
