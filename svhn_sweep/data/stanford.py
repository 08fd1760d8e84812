"""Builds an HDF5 file of the package's layout from Stanford's cropped digits.

Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, 2011:
train_32x32.mat holds 73,257 colour crops, test_32x32.mat 26,032, extra_32x32.mat 531,131 easier
ones; the digit 0 has the label 10.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from svhn_sweep.config.data_sources import StanfordConfig
from svhn_sweep.data import hdf5
from svhn_sweep.data.download import fetch
from svhn_sweep.data.splits import Images, Labels
from svhn_sweep.errors import DataError

BASE_URL = "http://ufldl.stanford.edu/housenumbers/"
TRAIN_FILE = "train_32x32.mat"
TEST_FILE = "test_32x32.mat"
EXTRA_FILE = "extra_32x32.mat"
SHA256 = {
    TRAIN_FILE: "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
    TEST_FILE: "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
    EXTRA_FILE: "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3",
}
LUMA = np.array([0.2989, 0.5870, 0.1140], dtype=np.float32)  # ITU-R BT.601, as Matlab's rgb2gray

Indices = NDArray[np.intp]
Crops = tuple[NDArray[np.uint8], Labels]  # colour images, [N, 32, 32, 3], and their labels, 0..9


def build(config: StanfordConfig) -> Path:
    """Downloads and converts a balanced subset, unless its HDF5 file exists.

    Test digits come from Stanford's test file. Where it has too few of a digit (1,800 of each are
    needed by default; it has 1,744 of 0, 1,660 of 8 and 1,595 of 9), training crops that are not
    in `X_train` replace the missing ones.

    Args:
        config: The folder, the sizes and the seed.

    Returns:
        The path of the HDF5 file.

    Raises:
        DataError: A download failed, a file is not Stanford's, or there are too few of a digit.
    """
    folder = Path(config.folder).absolute()
    sizes = f"{config.train_size}+{config.test_size}{'-extra' if config.extra else ''}"
    path = folder / f"SVHN-{sizes}-seed{config.seed}.h5"
    if not path.exists():
        names = [TRAIN_FILE, TEST_FILE] + [EXTRA_FILE] * config.extra
        for name in names:
            fetch(BASE_URL + name, folder / name, SHA256[name])
        crops = {name: _read(folder / name) for name in names}
        test = crops.pop(TEST_FILE)
        hdf5.write(path, _balanced_subset(_concatenate(list(crops.values())), test, config))
    return path


def _read(path: Path) -> Crops:
    """Reads a file that is Stanford's own; SciPy can crash the process on a damaged one."""
    content = loadmat(path, variable_names=["X", "y"])
    labels = content["y"].reshape(-1)
    return np.moveaxis(content["X"], -1, 0), np.where(labels == 10, 0, labels).astype(np.uint8)


def _concatenate(crops: list[Crops]) -> Crops:
    if len(crops) == 1:  # np.concatenate would copy 225 MB
        return crops[0]
    images, labels = zip(*crops, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _balanced_subset(
    train: Crops, test: Crops, config: StanfordConfig
) -> dict[str, NDArray[np.generic]]:
    """The datasets of the HDF5 file."""
    random = np.random.default_rng(config.seed)
    train_images, train_labels = train
    test_images, test_labels = test
    from_train, unused = _choose(train_labels, config.train_size, random)
    from_test, _ = _choose(test_labels, config.test_size, random)
    missing = _balanced_counts(config.test_size) - _counts(test_labels[from_test])
    unused_labels = train_labels[unused]
    by_digit = [np.flatnonzero(unused_labels == digit)[:n] for digit, n in enumerate(missing)]
    replacements = unused[np.concatenate(by_digit)]
    y_train = train_labels[from_train]
    y_test = np.concatenate([test_labels[from_test], train_labels[replacements]])
    _check_balance("train", config.train_size, y_train)
    _check_balance("test", config.test_size, y_test)
    x_test = np.concatenate([_grey(test_images[from_test]), _grey(train_images[replacements])])
    order = random.permutation(len(y_test))
    return {
        "X_train": _grey(train_images[from_train]),
        "y_train": y_train,
        "X_test": x_test[order],
        "y_test": y_test[order],
    }


def _choose(labels: Labels, size: int, random: np.random.Generator) -> tuple[Indices, Indices]:
    """Indices of a balanced random choice and of the rest, both in random order.

    Of a digit with too few crops all are chosen.
    """
    shuffled = random.permutation(len(labels))
    counts = _balanced_counts(size)
    chosen = np.concatenate(
        [shuffled[labels[shuffled] == digit][: counts[digit]] for digit in range(10)]
    )
    unused = np.setdiff1d(shuffled, chosen)
    return random.permutation(chosen), random.permutation(unused)


def _check_balance(split: str, size: int, labels: Labels) -> None:
    missing = _balanced_counts(size) - _counts(labels)
    if missing.any():
        digit = int(missing.argmax())
        raise DataError(
            f"data.{split}_size={size} needs {missing[digit]} more "
            f"of the digit {digit} than there are."
        )


def _balanced_counts(size: int) -> NDArray[np.intp]:
    """How many of each digit a balanced split of this size has."""
    return _counts(np.arange(size) % 10)


def _counts(labels: NDArray[np.integer]) -> NDArray[np.intp]:
    return np.bincount(labels, minlength=10)


def _grey(images: NDArray[np.uint8]) -> Images:
    """Grey values, float32 [N, 32, 32], 0..255."""
    return np.asarray(np.minimum(images @ LUMA, 255), dtype=np.float32)
