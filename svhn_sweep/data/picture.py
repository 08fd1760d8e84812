"""A picture of a digit, of any size, as the models take it."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from svhn_sweep.data.splits import Images
from svhn_sweep.errors import DataError

SIDE = 32  # pixels


def read(path: Path) -> Images:
    """The picture in a file: float32 [32, 32, 1], grey, 0..255.

    What is transparent becomes white. A picture that is not square is made square by repeating its
    edges, as Stanford's crops extend into the digit's surroundings; then it is scaled. A grey one
    of 32x32 stays as it is.

    Raises:
        DataError: it is missing, or not a picture.
    """
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode in ("I", "F"):  # which Pillow would clip, too
                raise ValueError("its pixels have more than 16 bits, and no known white")
            if picture.mode.startswith("I;16"):  # which Pillow would clip at 255
                picture = Image.fromarray((np.asarray(picture) // 257).astype(np.uint8))
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            grey = picture.convert("L")  # ITU-R BT.601 luma, as the digits in the data
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
    ) as error:  # all that Pillow raises
        raise DataError(f"{path} must be a picture but cannot be read: {error}.") from error
    if grey.size != (SIDE, SIDE):
        grey = Image.fromarray(_square(np.asarray(grey))).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
    return np.asarray(grey, dtype=np.float32)[..., None]


def _square(pixels: np.ndarray) -> np.ndarray:
    lacking = max(pixels.shape) - np.array(pixels.shape)
    return np.pad(pixels, [(each // 2, each - each // 2) for each in lacking], mode="edge")
