"""Converts picture files of any size to the models' input."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from svhn_sweep.config.data_sources import IMAGE_SIZE
from svhn_sweep.data.splits import Images
from svhn_sweep.errors import DataError

MAX_SIDE = 4096  # pixels, before a picture is padded: the padding of 300,000 x 1 would be 84 GiB
READ_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # Pillow's


def read(path: Path) -> Images:
    """Reads a picture in grey; transparent pixels become white.

    A picture that is not square is padded with its edge pixels, since Stanford's crops extend into
    the digit's surroundings; then it is scaled. A picture with a side of over 4096 pixels is scaled
    to that before. Grey pictures of 32x32 keep their pixels.

    Args:
        path: The file, in any format that Pillow reads.

    Returns:
        float32 [32, 32, 1], 0..255.

    Raises:
        DataError: The file is missing or no picture.
    """
    if path.exists() and not path.is_file():  # opening a FIFO waits for a writer
        raise DataError(f"{path} must be a picture but is no file.")
    try:
        # Pillow warns of some damaged files before it raises an error.
        with warnings.catch_warnings(action="ignore"), Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode in ("I", "F"):  # Pillow would clip these at 255
                raise ValueError("its pixels have more than 16 bits, and no known white")
            if picture.mode.startswith("I;16"):  # and these
                picture = Image.fromarray((np.asarray(picture) // 257).astype(np.uint8))
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            grey = picture.convert("L")  # ITU-R BT.601 luma, as in the data files
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except READ_ERRORS as error:
        raise DataError(f"{path} must be a picture but cannot be read: {error}.") from error
    if grey.size != (IMAGE_SIZE, IMAGE_SIZE):
        grey.thumbnail((MAX_SIDE, MAX_SIDE))
        square = Image.fromarray(_pad_to_square(np.asarray(grey)))
        grey = square.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return np.asarray(grey, dtype=np.float32)[..., None]


def _pad_to_square(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    missing = max(pixels.shape) - np.array(pixels.shape)
    return np.pad(pixels, [(count // 2, count - count // 2) for count in missing], mode="edge")
