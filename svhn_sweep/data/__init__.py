"""From a data config to arrays: every source ends in an HDF5 file of one layout, read by one
reader.
"""

from dataclasses import replace
from pathlib import Path

from svhn_sweep.config.schema import (
    AutoConfig,
    DataConfig,
    StanfordConfig,
    SvhnConfig,
    SyntheticConfig,
)
from svhn_sweep.data import hdf5, stanford, synthetic
from svhn_sweep.data.splits import Images, Labels, Parts, Splits, split_validation
from svhn_sweep.errors import DataError

__all__ = ["Images", "Labels", "Parts", "Splits", "has_test", "load", "resolve", "split_validation"]


def resolve(config: DataConfig, *, path_given: bool = False) -> DataConfig:
    """The source that a config stands for on this machine, with an absolute path: never
    `AutoConfig`.

    `path_given`: the user named a file; then only that will do, never the synthetic digits.
    """
    if isinstance(config, AutoConfig):
        return resolve(
            SvhnConfig(config.path)
            if path_given or Path(config.path).exists()
            else config.synthetic
        )
    if isinstance(config, SvhnConfig):
        return replace(config, path=str(Path(config.path).absolute()))
    assert isinstance(config, StanfordConfig | SyntheticConfig)
    return replace(config, folder=str(Path(config.folder).absolute()))


def has_test(path: Path) -> bool:
    """Whether the file has a test split; it is not read."""
    return hdf5.has_test(path)


def load(config: DataConfig, *, test: bool) -> Splits:
    """The digits of a resolved config; builds or downloads them first where needed.

    Raises:
        DataError: the file is missing or malformed, a download failed, or there is no place for the
            digits.
    """
    try:
        match config:
            case SvhnConfig():
                return hdf5.read(Path(config.path), "svhn", test=test)
            case StanfordConfig():
                return hdf5.read(stanford.build(config), "stanford", test=test)
            case SyntheticConfig():
                return hdf5.read(synthetic.build(config), "synthetic", test=test)
    except OSError as error:
        raise DataError(f"the digits cannot be stored: {error}.") from error
    raise TypeError(f"{type(config).__name__} is not a resolved data source")
