"""Finds digits that two files have in common."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from svhn_sweep.data import hdf5
from svhn_sweep.data.copies import Digests, digest_images
from svhn_sweep.data.splits import Images


def count_shared(images: Images, path: Path, sha256: str) -> int:
    """Counts the images that are among the training images of a file, pixel for pixel.

    Args:
        images: Float32 [N, 32, 32, 1], 0..255; rounded to whole grey levels.
        path: The file.
        sha256: The digest of the file.

    Raises:
        DataError: The file is no file of digits.
    """
    return int(np.isin(digest_images(images), _trained(path, sha256)).sum())


@lru_cache(maxsize=1)
def _trained(path: Path, sha256: str) -> Digests:
    """The training images' digests; `sha256` tells two contents of one path apart."""
    return digest_images(hdf5.read_images(path, "train"))
