"""Resolves `training.initial_weights` and checks that these fit and have seen no test digit."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import numpy as np

from svhn_sweep.config.schema import Config
from svhn_sweep.data import Splits, read_digests
from svhn_sweep.data.splits import count_to_train
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

    An alias is resolved once in a process.

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
    """Copies a model from MLflow; `store` is an argument for the cache alone."""
    run = source_run.find(address)
    file = source_run.fetch(run, Path(mkdtemp(dir=_scratch().name)))
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
    _check_other_file(learnt, splits.path, splits.sha256, validation_split)


@cache
def _check_other_file(learnt: LearntFrom, path: Path, sha256: str, validation_split: float) -> None:
    """As `_check_digits` for weights that have learnt from another file, if that is still there.

    Digits without a fault are checked once in a process, not for each run of a grid.

    Args:
        learnt: What the weights have learnt from.
        path: The run's file.
        sha256: Its SHA-256.
        validation_split: The fraction of its X_train that is used for validation.
    """
    if learnt.path is None or not learnt.path.is_file():
        return
    if file_digest(learnt.path) != learnt.sha256:  # other digits by now
        return
    others, _ = read_digests(learnt.path, learnt.sha256)["train"]
    trained = others[: count_to_train(len(others), learnt.validation_split)]
    digests = {split: images for split, (images, _) in read_digests(path, sha256).items()}
    cut = count_to_train(len(digests["train"]), validation_split)
    judging = {"validation": digests["train"][cut:]}
    judging |= {"test": digests["test"]} if "test" in digests else {}
    for name, images in judging.items():
        shared = np.isin(images, trained).sum()
        if shared:
            raise ConfigError(
                f"{KEY} must not have learnt from digits that it is judged by, but {shared} of the "
                f"{len(images)} {name} digits of {path} are among the training digits of "
                f"{learnt.path}, from which it has learnt."
            )
