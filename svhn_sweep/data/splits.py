"""What every data source ends in: arrays in memory."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from svhn_sweep.errors import DataError

Images = NDArray[np.float32]  # [N, 32, 32, 1], 0..255
Labels = NDArray[np.uint8]  # [N], 0..9


@dataclass(frozen=True)
class Splits:
    """A data set in memory.

    Attributes:
        x_train: float32 [N, 32, 32, 1], 0..255.
        y_train: uint8 [N], 0..9.
        x_test, y_test: the same for the test split; None where it was not asked for.
        source: svhn, stanford or synthetic.
        path: the HDF5 file the arrays came from.
        sha256: the digest of that file's bytes, as `sha256sum` prints it.
    """

    x_train: Images
    y_train: Labels
    x_test: Images | None
    y_test: Labels | None
    source: str
    path: Path
    sha256: str


@dataclass(frozen=True)
class Parts:
    """X_train and y_train in two: images and labels to learn from, and those to judge each epoch
    by.
    """

    train: tuple[Images, Labels]
    validation: tuple[Images, Labels]


def split_validation(splits: Splits, fraction: float) -> Parts:
    """Keras' `validation_split`: the last `fraction` of the training arrays, before any shuffling.

    Raises:
        DataError: one of the parts would be empty.
    """
    count = len(splits.x_train)
    cut = math.floor(count * (1 - fraction))
    if not 0 < cut < count:
        raise DataError(
            f"{splits.path}: X_train must be enough for training and validation "
            f"but training.validation_split={fraction:g} cuts its "
            f"{count} digits into {cut} and {count - cut}."
        )
    return Parts(
        train=(splits.x_train[:cut], splits.y_train[:cut]),
        validation=(splits.x_train[cut:], splits.y_train[cut:]),
    )
