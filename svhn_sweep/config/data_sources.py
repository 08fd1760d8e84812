"""The schema of conf/data/: the data sources, their types and rules."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from svhn_sweep.config.rules import number

IMAGE_SIZE = 32  # pixels, of every source's images
CLASSES = 10  # the digits
MAX_SEED = 2**32 - 1  # NumPy's


@dataclass
class DataConfig:
    """The base class of all data sources."""


@dataclass
class SvhnConfig(DataConfig):
    """An HDF5 file at `path` with the arrays X_train, y_train, X_test and y_test."""

    path: str = MISSING


@dataclass
class SyntheticConfig(DataConfig):
    """Synthetic digits, which depend on the seed and the sizes alone.

    Attributes:
        folder: The folder of the generated HDF5 file.
        train_size: The number of images in X_train.
        test_size: The number of images in X_test.
        seed: The seed of the generator.
    """

    folder: str = MISSING
    train_size: int = number(at_least=10, at_most=1_000_000)
    test_size: int = number(at_least=10, at_most=1_000_000)
    seed: int = number(at_least=0, at_most=MAX_SEED)


@dataclass
class StanfordConfig(DataConfig):
    """A subset of Stanford's cropped digits, which are downloaded.

    Attributes:
        folder: The folder of the downloads and of the HDF5 file made from them.
        extra: Whether extra_32x32.mat, with easier digits, is used as well.
        train_size: The number of images in X_train.
        test_size: The number of images in X_test.
        seed: The seed of the random choice.
    """

    folder: str = MISSING
    extra: bool = MISSING
    train_size: int = number(at_least=10, at_most=1_000_000)
    test_size: int = number(at_least=10, at_most=1_000_000)
    seed: int = number(at_least=0, at_most=MAX_SEED)


@dataclass
class AutoConfig(DataConfig):
    """The HDF5 file at `path` if it exists, else synthetic digits."""

    path: str = MISSING
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)


SOURCES: dict[str, type[DataConfig]] = {
    "auto": AutoConfig,
    "svhn": SvhnConfig,
    "stanford": StanfordConfig,
    "synthetic": SyntheticConfig,
}


def source_name(config: DataConfig) -> str:
    """Returns the name of a data source on the command line: NAME in `data=NAME`."""
    return next(name for name, source in SOURCES.items() if type(config) is source)
