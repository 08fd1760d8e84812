"""Loads digits: every source is converted to an HDF5 file of one layout, read by one reader."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from svhn_sweep.config.data_sources import (
    AutoConfig,
    DataConfig,
    StanfordConfig,
    SvhnConfig,
    SyntheticConfig,
    source_name,
)
from svhn_sweep.data import copies, hdf5, stanford, synthetic
from svhn_sweep.data.hdf5 import check_test
from svhn_sweep.data.splits import (
    FitData,
    Images,
    Labels,
    Splits,
    describe_imbalance,
    split_validation,
)
from svhn_sweep.errors import DataError
from svhn_sweep.files import absolute

__all__ = [
    "FitData",
    "Images",
    "Labels",
    "Splits",
    "check_test",
    "copies_tag",
    "describe_copies",
    "describe_imbalance",
    "load",
    "locate",
    "read_digests",
    "release",
    "resolve",
    "split_validation",
]

# A sweep loads its digits for each model, a grid for each job, a worker for each trial.
_read = lru_cache(maxsize=1)(hdf5.read)
release = _read.cache_clear  # gives the memory of the digits back


def resolve(config: DataConfig, *, path_given: bool = False) -> DataConfig:
    """Returns the data source that a config means on this machine.

    Args:
        config: Any data config.
        path_given: Whether the user named a file; `AutoConfig` then means this file even if it does
            not exist.

    Returns:
        The config with an absolute path, `~` replaced; never an `AutoConfig`.
    """
    if isinstance(config, AutoConfig):
        use_file = path_given or absolute(config.path).exists()
        return resolve(SvhnConfig(config.path) if use_file else config.synthetic)
    if isinstance(config, SvhnConfig):
        return replace(config, path=str(absolute(config.path)))
    assert isinstance(config, StanfordConfig | SyntheticConfig)
    return replace(config, folder=str(absolute(config.folder)))


def load(config: DataConfig, *, test: bool) -> Splits:
    """Loads the digits of a resolved config; generates or downloads them first if necessary.

    Args:
        config: From `resolve`.
        test: Whether the test split is read too.

    Raises:
        DataError: The file is missing or malformed, a download failed, or the digits cannot be
            stored.
        OutOfMemoryError: The machine has too little memory for the digits.
    """
    return _read(locate(config), source_name(config), test=test)


def locate(config: DataConfig) -> Path:
    """Returns the file of a resolved config; generates or downloads it first if necessary.

    Raises:
        DataError: A download failed, or the digits cannot be stored.
    """
    try:
        match config:
            case SvhnConfig():
                return Path(config.path)
            case StanfordConfig():
                return stanford.build(config)
            case SyntheticConfig():
                return synthetic.build(config)
    except OSError as error:
        raise DataError(f"the digits cannot be stored: {error}.") from error
    raise TypeError(f"{type(config).__name__} is not a resolved data source")


def describe_copies(splits: Splits, fraction: float) -> str:
    """Returns how many validation, test and X_val images are copies; empty if there are none.

    Args:
        splits: The digits; the splits that they lack are read from their file.
        fraction: The fraction of the training split that is used for validation.
    """
    return copies.describe_copies(read_digests(splits.path, splits.sha256), fraction)


def copies_tag(copies: str) -> dict[str, str]:
    """Returns the tag of a run for what `describe_copies` returns; none if it is empty."""
    return {"data.copies": copies} if copies else {}


@lru_cache(maxsize=1)
def read_digests(path: Path, sha256: str) -> dict[str, tuple[copies.Digests, Labels]]:
    """Returns what `hdf5.read_digests` does; a file is read again if it has another `sha256`."""
    return hdf5.read_digests(path)
