"""What every data source ends in: arrays in memory."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
