"""Judge a model on one split."""

import json
from collections.abc import Callable
from dataclasses import dataclass
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

from svhn_sweep.data.splits import Images, Labels
from svhn_sweep.training.model import INPUT_SHAPE

DIGITS = list(range(10))
BATCH_SIZE = 128  # images

Predict = Callable[[Images], NDArray[np.float32]]


@dataclass(frozen=True)
class Evaluation:
    """How a model did on one split.

    Attributes:
        split: validation or test.
        probabilities: float32 [N, 10], rows sum to 1.
        labels: uint8 [N], the true digits.
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
        """The mean categorical cross-entropy, of probabilities no nearer to 0 than 1e-7: at most
        16.1 for an image.
        """
        truth = keras.utils.to_categorical(self.labels, len(DIGITS))
        return float(
            keras.ops.mean(keras.losses.categorical_crossentropy(truth, self.probabilities))
        )

    @property
    def accuracy(self) -> float:
        """The share of images that are right, 0..1."""
        return float(accuracy_score(self.labels, self.predictions))

    @property
    def macro_f1(self) -> float:
        """The mean over digits of 2 precision recall / (precision + recall), 0..1; 0 for a digit
        never predicted.
        """
        return float(
            f1_score(self.labels, self.predictions, labels=DIGITS, average="macro", zero_division=0)
        )

    @property
    def recall(self) -> list[float]:
        """For each digit the share of its images that are recognised, 0..1; 0 for a digit that
        the split lacks.
        """
        recalls = recall_score(
            self.labels, self.predictions, labels=DIGITS, average=None, zero_division=0
        )
        return [float(value) for value in recalls]

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts, int64 [10, 10]: row = true digit, column = predicted digit."""
        matrix: NDArray[np.int64] = confusion_matrix(self.labels, self.predictions, labels=DIGITS)
        return matrix

    def write(self, folder: Path) -> list[str]:
        """Write matrix and report as text and JSON below `folder`; returns the paths relative to
        it.
        """
        common = {
            "y_true": self.labels,
            "y_pred": self.predictions,
            "labels": DIGITS,
            "zero_division": 0,
        }
        contents = {
            f"confusion_matrix/{self.split}.json": json.dumps(
                {
                    "rows": "true digit",
                    "columns": "predicted digit",
                    "counts": self.confusion.tolist(),
                }
            ),
            f"classification_report/{self.split}.txt": classification_report(**common, digits=3),
            f"classification_report/{self.split}.json": json.dumps(
                classification_report(**common, output_dict=True), indent=2
            ),
        }
        for path, text in contents.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        return list(contents)


def predictor(model: keras.Model) -> Predict:
    """From images to the model's probabilities, float32 [N, 10], by the weights that it holds when
    asked.

    TensorFlow traces the model once, whatever the number of images. Keras' `predict` would trace it
    once for each of the steps that the fit puts into one call.
    """
    signature = [tf.TensorSpec((None, *INPUT_SHAPE), tf.float32)]
    probabilities = tf.function(
        lambda images: model(images, training=False), input_signature=signature
    )

    def predict(images: Images) -> NDArray[np.float32]:
        batches = [images[at : at + BATCH_SIZE] for at in range(0, len(images), BATCH_SIZE)]
        return np.concatenate([probabilities(batch).numpy() for batch in batches])

    return predict


def evaluate(predict: Predict, images: Images, labels: Labels, split: str) -> Evaluation:
    """How a model does on a split."""
    return Evaluation(split, predict(images), labels)
