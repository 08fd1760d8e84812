"""Defines the arrays that every data source is read into."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from svhn_sweep.errors import DataError

MAX_RATIO = 2  # between a digit's share in validation and in training
MIN_DEVIATION = 5  # standard deviations, from which on chance does not explain a difference

Images = NDArray[np.float32]  # [N, 32, 32, 1], 0..255
Labels = NDArray[np.uint8]  # [N], 0..9


@dataclass(frozen=True)
class Splits:
    """The training and the test split of a data file.

    Attributes:
        x_train: The training images, float32 [N, 32, 32, 1], 0..255.
        y_train: Their labels, uint8 [N], 0..9.
        x_test: As `x_train`, of the test split; None if it was not requested.
        y_test: As `y_train`, of the test split; None if it was not requested.
        source: svhn, stanford or synthetic.
        path: The HDF5 file.
        sha256: The digest of the file, as `sha256sum` prints it.
    """

    x_train: Images
    y_train: Labels
    x_test: Images | None
    y_test: Labels | None
    source: str
    path: Path
    sha256: str


@dataclass(frozen=True)
class FitData:
    """The training split in two parts.

    Attributes:
        train: The images and labels to train on.
        validation: The images and labels to evaluate each epoch on.
    """

    train: tuple[Images, Labels]
    validation: tuple[Images, Labels]


def split_validation(splits: Splits, fraction: float) -> FitData:
    """Splits off the end of the training arrays, as Keras' `validation_split` does.

    Args:
        splits: The data.
        fraction: The fraction of the training split that is used for validation, between 0 and 1.

    Raises:
        DataError: One of the parts would be empty.
    """
    count = len(splits.x_train)
    cut = count_to_train(count, fraction)
    if not 0 < cut < count:
        raise DataError(
            f"{splits.path}: X_train must be enough for training and validation "
            f"but training.validation_split={fraction:g} cuts its "
            f"{count} digits into {cut} and {count - cut}."
        )
    return FitData(
        train=(splits.x_train[:cut], splits.y_train[:cut]),
        validation=(splits.x_train[cut:], splits.y_train[cut:]),
    )


def count_to_train(count: int, fraction: float) -> int:
    """Returns how many of so many images are not used for validation; see `split_validation`."""
    return math.floor(count * (1 - fraction))


def describe_imbalance(fit_data: FitData) -> str:
    """Returns which digits validation lacks or has out of proportion to training.

    A digit is out of proportion if its share in validation is more than twice that in training, or
    less than half of it, beyond chance. The text is empty if validation is like training.
    """
    _, trained = fit_data.train
    _, validated = fit_data.validation
    counts = np.bincount(validated, minlength=10)
    expected = np.bincount(trained, minlength=10) * len(validated) / len(trained)
    uneven = (counts > MAX_RATIO * expected) | (counts < expected / MAX_RATIO)
    uneven &= np.abs(counts - expected) > MIN_DEVIATION * np.sqrt(np.maximum(expected, 1))
    digits = {
        "no": np.flatnonzero(counts == 0),
        "too many or too few of": np.flatnonzero(uneven & (counts > 0)),
    }
    return " and ".join(
        f"{fault} {', '.join(map(str, affected))}"
        for fault, affected in digits.items()
        if len(affected)
    )
