"""Reads and writes the HDF5 layout of the digits: X_train, y_train, X_test, y_test, and X_val."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from svhn_sweep.data.copies import Digests, digest_images
from svhn_sweep.data.splits import Images, Labels, Splits
from svhn_sweep.errors import DataError, OutOfMemoryError
from svhn_sweep.files import file_digest, unique_temporary
from svhn_sweep.machine import available_memory

SPLITS = ("train", "val", "test")
BLOCK = 4096  # images that are read at a time to be digested, 16 MiB of float32
MAX_DIGITS = 2_000_000  # SVHN has a third of that; more in a split means a damaged file
MAX_ROUNDING_ERROR = 1e-3  # grey levels beyond 0..255: a conversion to grey may round to 255.00002
READ_ERRORS = (OSError, KeyError, RuntimeError, TypeError, ValueError)  # h5py's, for a damaged file


def read(path: Path, source: str, *, test: bool) -> Splits:
    """Reads and checks a file.

    Args:
        path: The file. Its images may be `(N, 32, 32)` or `(N, 32, 32, 1)`, uint8 or float, 0..255.
        source: svhn, stanford or synthetic.
        test: Whether `X_test` and `y_test` are read too; they need not exist otherwise.

    Raises:
        DataError: The file is missing, damaged, or holds anything but digits in that layout.
        OutOfMemoryError: The machine has too little memory for the digits.
    """
    with _open(path) as file:
        x_train, y_train = _split(file, "train")
        x_test, y_test = _split(file, "test") if test else (None, None)
    return Splits(x_train, y_train, x_test, y_test, source, path, file_digest(path))


def read_all(path: Path) -> dict[str, tuple[Images, Labels]]:
    """Reads and checks all splits that a file has.

    Args:
        path: As for `read`.

    Returns:
        Images and labels of train, and of val and test if the file has them.

    Raises:
        DataError: As for `read`.
        OutOfMemoryError: As for `read`.
    """
    with _open(path) as file:
        return {split: _split(file, split) for split in SPLITS if _has(file, split)}


def read_digests(path: Path) -> dict[str, tuple[Digests, Labels]]:
    """Reads a number for each image, equal for equal images, and the labels.

    Grey levels are rounded, so that images are equal whatever type they are stored in. The images
    are not kept in memory.

    Args:
        path: As for `read`.

    Returns:
        Digests, uint64 [N], and labels, [N], by split. A split that is missing, malformed or
        damaged is left out: a run does not use it, or refuses it.
    """
    digests = {}
    with _open(path) as file:
        for split in SPLITS:
            with suppress(DataError, *READ_ERRORS):
                images, labels = _datasets(file, split)
                digests[split] = _digests(images), _labels(labels)
    return digests


def check_test(path: Path) -> None:
    """Checks type, shape and size of a file's test split; its images and labels are not read.

    Raises:
        DataError: The test split is missing or malformed.
    """
    with _open(path) as file:
        _datasets(file, "test")


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


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """Opens a file to read; what h5py raises for a damaged one becomes a DataError."""
    # Only a regular file: opening a FIFO waits for a writer.
    if path.exists() and not (path.is_file() and h5py.is_hdf5(path)):
        raise DataError(f"{path} is not an HDF5 file.")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist; set data.path to an HDF5 file, or "
            "take data=synthetic or data=stanford."
        ) from None
    except READ_ERRORS as error:
        raise DataError(f"{path} cannot be read as HDF5: {error}.") from error


def _has(file: h5py.File, split: str) -> bool:
    return split == "train" or f"X_{split}" in file or f"y_{split}" in file


def _digests(dataset: h5py.Dataset) -> Digests:
    return np.concatenate(
        [digest_images(dataset[start : start + BLOCK]) for start in range(0, len(dataset), BLOCK)]
    )


def _split(file: h5py.File, split: str) -> tuple[Images, Labels]:
    images, labels = _datasets(file, split)
    return _images(images), _labels(labels)


def _datasets(file: h5py.File, split: str) -> tuple[h5py.Dataset, h5py.Dataset]:
    """The images and the labels of a split, of which nothing is read yet."""
    images = _dataset(file, f"X_{split}", ((32, 32), (32, 32, 1)))
    labels = _dataset(file, f"y_{split}", ((), (1,)))
    if len(images) != len(labels):
        raise DataError(
            f"{file.filename}: X_{split} and y_{split} must hold equally many digits "
            f"but hold {len(images)} and {len(labels)}."
        )
    return images, labels


def _dataset(file: h5py.File, name: str, shapes: tuple[tuple[int, ...], ...]) -> h5py.Dataset:
    """A dataset of numbers in the file itself, of one of these shapes without the first dimension.

    Its values are not read.
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
    return dataset


def _location(dataset: h5py.Dataset) -> str:
    return f"{dataset.file.filename}: {dataset.name.lstrip('/')}"


def _values(dataset: h5py.Dataset) -> NDArray[np.generic]:
    """The values of a dataset, if the machine has memory for them."""
    copied = 0 if dataset.dtype == np.float32 else np.dtype(np.float32).itemsize
    needed = dataset.size * (dataset.dtype.itemsize + copied)
    available = available_memory()
    if needed > available:
        raise OutOfMemoryError(
            f"{_location(dataset)} takes {needed / 2**30:.1f} GiB of memory to be read but "
            f"{available / 2**30:.1f} GiB are free; use a file with fewer digits or a machine "
            "with more memory."
        )
    try:
        values: NDArray[np.generic] = dataset[()]
    except OSError as error:
        if missing := _missing_filters(dataset):
            raise DataError(
                f"{_location(dataset)} must be compressed with a filter that HDF5 has here but "
                f"needs {missing}; set HDF5_PLUGIN_PATH to the folder of its plugin (the package "
                "hdf5plugin has most), or store it with gzip."
            ) from error
        raise
    return values


def _missing_filters(dataset: h5py.Dataset) -> str:
    """The filters of a dataset that HDF5 does not have, as text: number and name of each."""
    pipeline = dataset.id.get_create_plist()
    filters = [pipeline.get_filter(index) for index in range(pipeline.get_nfilters())]
    return ", ".join(
        f"filter {number} ({name.decode(errors='replace') or 'without a name'})"
        for number, _, _, name in filters
        if not h5py.h5z.filter_avail(number)
    )


def _images(dataset: h5py.Dataset) -> Images:
    location = _location(dataset)
    values = _values(dataset).reshape(-1, 32, 32, 1)
    low = float(values.min())  # NaN if one pixel is
    high = float(values.max())
    if not np.isfinite([low, high]).all():
        broken = np.sum(~np.isfinite(values))
        raise DataError(f"{location} must be finite but {broken} pixels are NaN or infinite.")
    if low < -MAX_ROUNDING_ERROR or high > 255 + MAX_ROUNDING_ERROR:
        raise DataError(f"{location} must have pixels in 0..255 but they are in {low:g}..{high:g}.")
    if high <= 1:
        raise DataError(
            f"{location} must have pixels in 0..255 but they are in "
            f"{low:g}..{high:g}: they look already scaled "
            "to 0..1; store them unscaled, the model divides by 255 itself."
        )
    images = values.astype(np.float32, copy=False)
    return np.clip(images, 0, 255, out=images)


def _labels(dataset: h5py.Dataset) -> Labels:
    location = _location(dataset)
    labels = _values(dataset).reshape(-1).astype(np.float64)
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
