"""Read and write the course file's layout: X_train, y_train, X_test, y_test in one HDF5 file."""

import hashlib
import uuid
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from svhn_sweep.data.splits import Images, Labels, Splits
from svhn_sweep.errors import DataError

MOST_DIGITS = 2_000_000  # all of SVHN is a third of that; more is a damaged file


def read(path: Path, source: str, *, test: bool) -> Splits:
    """Read and check a file; `X_test` and `y_test` are opened only if `test`.

    Images may be `(N, 32, 32)` or `(N, 32, 32, 1)`, uint8 or float, 0..255.

    Raises:
        DataError: the file is missing, malformed, or holds anything but digits in that layout.
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
    except (
        OSError,
        KeyError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:  # h5py's, for a damaged file
        raise DataError(f"{path} cannot be read as HDF5: {error}.") from error
    with path.open("rb") as raw:
        sha256 = hashlib.file_digest(raw, "sha256").hexdigest()
    return Splits(x_train, y_train, x_test, y_test, source, path, sha256)


def has_test(path: Path) -> bool:
    """Whether a readable file has a test split of the form of its training split; no digit of it
    is read.
    """
    with h5py.File(path, "r") as file:
        if not all(isinstance(file.get(name), h5py.Dataset) for name in ("X_test", "y_test")):
            return False
        images = file["X_test"].shape
        labels = file["y_test"].shape
        return bool(
            images[1:] == file["X_train"].shape[1:] and images[:1] == labels[:1] and images[0] > 0
        )


def write(path: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    """Write the datasets to `path` as one atomic step: a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with h5py.File(unfinished, "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


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
    """The dataset's values, if they are numbers in this very file, and one of `shapes` behind
    the first dimension.
    """
    where = f"{file.filename}: {name}"
    link = file.get(name, getlink=True)
    if link is None:
        raise DataError(f"{where} is missing; the file holds {', '.join(file) or 'nothing'}.")
    if not isinstance(link, h5py.HardLink):
        raise DataError(
            f"{where} must be stored in the file itself but is a "
            f"{type(link).__name__} to {link.path}."
        )
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise DataError(f"{where} must be a dataset but is a {type(dataset).__name__}.")
    if dataset.external or dataset.is_virtual:
        raise DataError(f"{where} must be stored in the file itself but points at other files.")
    if not (np.issubdtype(dataset.dtype, np.integer) or np.issubdtype(dataset.dtype, np.floating)):
        raise DataError(f"{where} must hold numbers but its type is {dataset.dtype}.")
    if not dataset.shape or dataset.shape[1:] not in shapes:
        expected = " or ".join(str(("N", *shape)).replace("'", "") for shape in shapes)
        raise DataError(f"{where} must have the shape {expected} but has {dataset.shape}.")
    if len(dataset) == 0:
        raise DataError(f"{where} must not be empty but its shape is {dataset.shape}.")
    if len(dataset) > MOST_DIGITS:
        raise DataError(
            f"{where} must hold at most {MOST_DIGITS:,} digits but holds {len(dataset):,}."
        )
    values: NDArray[np.generic] = dataset[()]
    return values


def _images(file: h5py.File, name: str) -> Images:
    where = f"{file.filename}: {name}"
    values = _dataset(file, name, ((32, 32), (32, 32, 1))).reshape(-1, 32, 32, 1)
    broken = np.sum(~np.isfinite(values))
    if broken:
        raise DataError(f"{where} must be finite but {broken} pixels are NaN or infinite.")
    low = float(values.min())
    high = float(values.max())
    if low < 0 or high > 255:
        raise DataError(f"{where} must have pixels in 0..255 but they are in {low:g}..{high:g}.")
    if high <= 1:
        raise DataError(
            f"{where} must have pixels in 0..255 but they are in "
            f"{low:g}..{high:g}: they look already scaled "
            "to 0..1; store them unscaled, the model divides by 255 itself."
        )
    return values.astype(np.float32)


def _labels(file: h5py.File, name: str) -> Labels:
    where = f"{file.filename}: {name}"
    labels = _dataset(file, name, ((), (1,))).reshape(-1).astype(np.float64)
    wrong = ~np.isin(labels, np.arange(10))
    if (labels == 10).any() and not (labels == 0).any():
        raise DataError(f"{where} has label 10: Stanford's label for the digit 0; write it as 0.")
    if wrong.any():
        raise DataError(
            f"{where} must be whole numbers in 0..9 but {wrong.sum()} "
            f"are not, {labels[wrong][0]:g} first."
        )
    return labels.astype(np.uint8)
