"""Resolves `training.initial_weights` and checks that these fit and have seen no test digit."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from svhn_sweep.config.schema import Config
from svhn_sweep.data import hdf5, split_validation
from svhn_sweep.data.shared_digits import count_shared
from svhn_sweep.data.splits import Splits
from svhn_sweep.errors import ConfigError
from svhn_sweep.files import absolute, file_digest
from svhn_sweep.tracking import source_run, tracking_uri
from svhn_sweep.tracking.source_run import KEY, SourceRun
from svhn_sweep.training.initial_weights import InitialWeights, fitting_weights


@dataclass(frozen=True)
class LearntFrom:
    """Digits that weights have learnt from.

    Attributes:
        sha256: The SHA-256 of the file; empty if not known.
        path: The file, which may be gone or changed; None if not known.
        validation_split: The fraction of X_train that was kept for validation.
    """

    sha256: str
    path: Path | None
    validation_split: float


def resolve(config: Config, splits: Splits) -> InitialWeights | None:
    """Returns the weights that a config begins with, after all checks; None for random ones.

    What an alias means is asked once in a process.

    Args:
        config: A checked config.
        splits: Its digits.

    Raises:
        ConfigError: There are no such weights, they do not fit the model, or they have learnt from
            digits that this config validates or tests on.
        DataError: The file is no saved model.
        FailedError: MLflow does not answer.
    """
    address = config.training.initial_weights
    if address is None:
        return None
    if source_run.is_stored(address):
        run, weights = _fetch(address, tracking_uri.store_uri())
    else:
        run, weights = _of_file(absolute(address))
    fitting_weights(weights, config.model)
    for learnt in _learnt_from(run):
        _check_digits(learnt, splits, config.training.validation_split)
    return weights


def with_address(config: Config, weights: InitialWeights | None) -> Config:
    """Returns a config that names its initial weights by what the address resolved to."""
    if weights is None:
        return config
    return replace(config, training=replace(config.training, initial_weights=weights.address))


@cache
def _scratch() -> "TemporaryDirectory[str]":
    """A folder for this process' copies, removed at its end."""
    return TemporaryDirectory(prefix="svhn_sweep-weights-")


@cache
def _fetch(address: str, store: str) -> tuple[SourceRun, InitialWeights]:
    """Copies a model from MLflow; `store` tells stores apart."""
    run = source_run.find(address)
    folder = Path(_scratch().name) / str(len(list(Path(_scratch().name).iterdir())))
    folder.mkdir()
    file = source_run.fetch(run, folder)
    return run, InitialWeights(run.address, file, file_digest(file), _origin(run))


def _of_file(file: Path) -> tuple[SourceRun, InitialWeights]:
    if not file.is_file():
        raise ConfigError(
            f"{KEY} must be runs:/ID, models:/NAME@ALIAS, models:/NAME/VERSION or a .keras file "
            f"but {file} {'is a folder' if file.is_dir() else 'does not exist'}."
        )
    run = source_run.find(str(file))
    return run, InitialWeights(str(file), file, file_digest(file), _origin(run))


def _origin(run: SourceRun) -> dict[str, str]:
    origin = {
        "initial_weights.model": run.version,
        "initial_weights.data_sha256": run.params.get("data.sha256", ""),
    }
    return {key: value for key, value in origin.items() if value}


def _learnt_from(run: SourceRun) -> Iterator[LearntFrom]:
    """The digits of a run, of the run that its own weights began with, and so on, if known."""
    seen = set()
    while run.address not in seen:
        seen.add(run.address)
        yield LearntFrom(
            run.params.get("data.sha256", ""),
            run.data_path,
            float(run.params.get("training.validation_split", 0)),
        )
        address = run.params.get(KEY)
        if address is None:
            return
        try:
            run = source_run.find(address)
        except ConfigError:  # it was deleted since
            return


def _check_digits(learnt: LearntFrom, splits: Splits, validation_split: float) -> None:
    """Refuses weights that are known to have learnt from digits of validation or test."""
    if learnt.sha256 == splits.sha256:
        if learnt.validation_split < validation_split:
            raise ConfigError(
                f"training.validation_split must be at most {learnt.validation_split:g}, with "
                f"which {KEY} has learnt from the same file and so from digits of this "
                f"validation, but got {validation_split:g}."
            )
        return
    if learnt.path is None or not learnt.path.is_file():
        return
    if file_digest(learnt.path) != learnt.sha256:  # other digits by now
        return
    judging = {"validation": split_validation(splits, validation_split).validation[0]}
    if hdf5.has_test(splits.path):
        judging["test"] = hdf5.read_images(splits.path, "test")
    for split, images in judging.items():
        shared = count_shared(images, learnt.path, learnt.sha256)
        if shared:
            raise ConfigError(
                f"{KEY} must not have learnt from digits that it is judged by, but {shared} of the "
                f"{len(images)} {split} digits of {splits.path} are among the training digits of "
                f"{learnt.path}, from which it has learnt."
            )
