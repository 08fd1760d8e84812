"""Build the course file's layout from Stanford's cropped digits.

Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, 2011:
train_32x32.mat holds 73,257 colour crops, test_32x32.mat 26,032, extra_32x32.mat 531,131 easier
ones; the digit 0 has the label 10.
"""

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from svhn_sweep.config.schema import StanfordConfig
from svhn_sweep.data import hdf5
from svhn_sweep.data.download import fetch
from svhn_sweep.data.splits import Images, Labels
from svhn_sweep.errors import DataError

BASE_URL = "http://ufldl.stanford.edu/housenumbers/"
SHA256 = {
    "train_32x32.mat": "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
    "test_32x32.mat": "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
    "extra_32x32.mat": "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3",
}
GREY = np.array(
    [0.2989, 0.5870, 0.1140], dtype=np.float32
)  # ITU-R BT.601 luma, as Matlab's rgb2gray
Indices = NDArray[np.intp]


def build(config: StanfordConfig) -> Path:
    """The HDF5 file with a balanced subset in grey; downloads, converts and stores it if it is not
    there yet.

    Test digits come from Stanford's test file. Where it holds too few of a digit (1,800 each are
    wanted by default; it has 1,744 of 0, 1,660 of 8 and 1,595 of 9), training crops that `X_train`
    does not use make up the rest.

    Raises:
        DataError: a download failed, a file is not Stanford's, or there are too few of a digit.
    """
    folder = Path(config.folder).absolute()
    sizes = f"{config.train_size}+{config.test_size}{'-extra' if config.extra else ''}"
    path = folder / f"SVHN-{sizes}-seed{config.seed}.h5"
    if not path.exists():
        names = ["train_32x32.mat", "test_32x32.mat"] + (
            ["extra_32x32.mat"] if config.extra else []
        )
        for name in names:
            fetch(BASE_URL + name, folder / name, SHA256[name])
        pools = [_read(folder / name) for name in names]
        train = _join(
            [pool for name, pool in zip(names, pools, strict=True) if name != "test_32x32.mat"]
        )
        hdf5.write(path, _balanced(train, pools[1], config))
    return path


def _read(path: Path) -> tuple[NDArray[np.uint8], Labels]:
    """Colour crops, uint8 [N, 32, 32, 3], and labels 0..9."""
    try:
        content = loadmat(path, variable_names=["X", "y"])
        images = content["X"]
        labels = content["y"].reshape(-1)
    except (
        MatReadError,
        NotImplementedError,
        ValueError,
        TypeError,
        KeyError,
        OSError,
        zlib.error,
    ) as error:
        raise DataError(
            f"{path} must be a .mat file with X and y but cannot be read: {error}."
        ) from error
    if images.shape != (32, 32, 3, len(labels)):
        raise DataError(
            f"{path}: X must have the shape (32, 32, 3, {len(labels)}) but has {images.shape}."
        )
    return np.moveaxis(images, -1, 0), np.where(labels == 10, 0, labels).astype(np.uint8)


def _join(pools: list[tuple[NDArray[np.uint8], Labels]]) -> tuple[NDArray[np.uint8], Labels]:
    if len(pools) == 1:  # joining would copy 225 MB
        return pools[0]
    images, labels = zip(*pools, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _balanced(
    train: tuple[NDArray[np.uint8], Labels],
    test: tuple[NDArray[np.uint8], Labels],
    config: StanfordConfig,
) -> dict[str, NDArray[np.generic]]:
    random = np.random.default_rng(config.seed)
    from_train, left_over = _pick(train[1], config.train_size, random)
    from_test, _ = _pick(test[1], config.test_size, random)
    lacking = _shares(config.test_size) - np.bincount(test[1][from_test], minlength=10)
    spare = left_over[
        np.concatenate(
            [np.flatnonzero(train[1][left_over] == d)[:n] for d, n in enumerate(lacking)]
        )
    ]
    made_up = np.concatenate([test[1][from_test], train[1][spare]])
    for split, wanted, got in (
        ("train", config.train_size, train[1][from_train]),
        ("test", config.test_size, made_up),
    ):
        short = _shares(wanted) - np.bincount(got, minlength=10)
        if short.any():
            digit = int(short.argmax())
            raise DataError(
                f"data.{split}_size={wanted} needs {short[digit]} more "
                f"of the digit {digit} than there are."
            )
    x_test = np.concatenate([_grey(test[0][from_test]), _grey(train[0][spare])])
    order = random.permutation(len(made_up))
    return {
        "X_train": _grey(train[0][from_train]),
        "y_train": train[1][from_train],
        "X_test": x_test[order],
        "y_test": made_up[order],
    }


def _shares(size: int) -> NDArray[np.intp]:
    """How many of each digit make a balanced `size`."""
    return np.bincount(np.arange(size) % 10, minlength=10)


def _pick(labels: Labels, size: int, random: np.random.Generator) -> tuple[Indices, Indices]:
    """Random indices, each digit equally often as far as there are enough, in random order; and
    those left over.
    """
    shuffled = random.permutation(len(labels))
    share = _shares(size)
    chosen = np.concatenate(
        [shuffled[labels[shuffled] == digit][: share[digit]] for digit in range(10)]
    )
    left_over = np.setdiff1d(shuffled, chosen)
    return random.permutation(chosen), random.permutation(left_over)


def _grey(images: NDArray[np.uint8]) -> Images:
    """float32 [N, 32, 32], 0..255."""
    return np.asarray(np.minimum(images @ GREY, 255), dtype=np.float32)
