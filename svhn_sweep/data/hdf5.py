"""Reads and writes the HDF5 layout of the digits: X_train, y_train, X_test, y_test."""

import hashlib
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from svhn_sweep.data.splits import Images, Labels, Splits
from svhn_sweep.errors import DataError
from svhn_sweep.files import unique_temporary

MAX_DIGITS = 2_000_000  # SVHN has a third of that; more in a split means a damaged file
READ_ERRORS = (OSError, KeyError, RuntimeError, TypeError, ValueError)  # h5py's, for a damaged file


def read(path: Path, source: str, *, test: bool) -> Splits:
    """Reads and checks a file.

    Args:
        path: The file. Its images may be `(N, 32, 32)` or `(N, 32, 32, 1)`, uint8 or float, 0..255.
        source: svhn, stanford or synthetic.
        test: Whether `X_test` and `y_test` are read too; they need not exist otherwise.

    Raises:
        DataError: The file is missing, damaged, or holds anything but digits in that layout.
    """
    if path.exists() and not h5py.is_hdf5(path):
        raise DataError(f"{path} is not an HDF5 file.")
    try:
        with h5py.File(path, "r") as file:
            x_train, y_train = _split(file, "train")
            x_test, y_test = _split(file, "test") if test else (None, None)
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist; set data.path to an HDF5 file, or "
            "take data=synthetic or data=stanford."
        ) from None
    except READ_ERRORS as error:
        raise DataError(f"{path} cannot be read as HDF5: {error}.") from error
    with path.open("rb") as raw:
        sha256 = hashlib.file_digest(raw, "sha256").hexdigest()
    return Splits(x_train, y_train, x_test, y_test, source, path, sha256)


def has_test(path: Path) -> bool:
    """Returns whether a readable file has a test split of its training split's format.

    The images and labels themselves are not read.
    """
    with h5py.File(path, "r") as file:
        if not all(isinstance(file.get(name), h5py.Dataset) for name in ("X_test", "y_test")):
            return False
        images = file["X_test"].shape
        labels = file["y_test"].shape
        same_format = images[1:] == file["X_train"].shape[1:]
        return bool(same_format and images[:1] == labels[:1] and images[0] > 0)


def write(path: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    """Writes a file in one atomic step: a reader sees the whole file or none.

    Args:
        path: The file; its folder is created if it does not exist.
        arrays: The datasets by name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with unique_temporary(path) as temporary:
        with h5py.File(temporary, "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array)
        temporary.replace(path)


def _split(file: h5py.File, split: str) -> tuple[Images, Labels]:
    images = _images(file, f"X_{split}")
    labels = _labels(file, f"y_{split}")
    if len(images) != len(labels):
        raise DataError(
            f"{file.filename}: X_{split} and y_{split} must hold equally many digits "
            f"but hold {len(images)} and {len(labels)}."
        )
    return images, labels


def _dataset(
    file: h5py.File, name: str, shapes: tuple[tuple[int, ...], ...]
) -> NDArray[np.generic]:
    """The values of a dataset, after checks.

    They must be numbers in the file itself, of one of these shapes without the first dimension.
    """
    location = f"{file.filename}: {name}"
    link = file.get(name, getlink=True)
    if link is None:
        raise DataError(f"{location} is missing; the file holds {', '.join(file) or 'nothing'}.")
    if not isinstance(link, h5py.HardLink):
        raise DataError(
            f"{location} must be stored in the file itself but is a "
            f"{type(link).__name__} to {link.path}."
        )
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise DataError(f"{location} must be a dataset but is a {type(dataset).__name__}.")
    if dataset.external or dataset.is_virtual:
        raise DataError(f"{location} must be stored in the file itself but points at other files.")
    if not (np.issubdtype(dataset.dtype, np.integer) or np.issubdtype(dataset.dtype, np.floating)):
        raise DataError(f"{location} must hold numbers but its type is {dataset.dtype}.")
    if not dataset.shape or dataset.shape[1:] not in shapes:
        expected = " or ".join(str(("N", *shape)).replace("'", "") for shape in shapes)
        raise DataError(f"{location} must have the shape {expected} but has {dataset.shape}.")
    if len(dataset) == 0:
        raise DataError(f"{location} must not be empty but its shape is {dataset.shape}.")
    if len(dataset) > MAX_DIGITS:
        raise DataError(
            f"{location} must hold at most {MAX_DIGITS:,} digits but holds {len(dataset):,}."
        )
    values: NDArray[np.generic] = dataset[()]
    return values


def _images(file: h5py.File, name: str) -> Images:
    location = f"{file.filename}: {name}"
    values = _dataset(file, name, ((32, 32), (32, 32, 1))).reshape(-1, 32, 32, 1)
    broken = np.sum(~np.isfinite(values))
    if broken:
        raise DataError(f"{location} must be finite but {broken} pixels are NaN or infinite.")
    low = float(values.min())
    high = float(values.max())
    if low < 0 or high > 255:
        raise DataError(f"{location} must have pixels in 0..255 but they are in {low:g}..{high:g}.")
    if high <= 1:
        raise DataError(
            f"{location} must have pixels in 0..255 but they are in "
            f"{low:g}..{high:g}: they look already scaled "
            "to 0..1; store them unscaled, the model divides by 255 itself."
        )
    return values.astype(np.float32)


def _labels(file: h5py.File, name: str) -> Labels:
    location = f"{file.filename}: {name}"
    labels = _dataset(file, name, ((), (1,))).reshape(-1).astype(np.float64)
    wrong = ~np.isin(labels, np.arange(10))
    if (labels == 10).any() and not (labels == 0).any():
        raise DataError(
            f"{location} has label 10: Stanford's label for the digit 0; write it as 0."
        )
    if wrong.any():
        raise DataError(
            f"{location} must be whole numbers in 0..9 but {wrong.sum()} "
            f"are not, {labels[wrong][0]:g} first."
        )
    return labels.astype(np.uint8)
