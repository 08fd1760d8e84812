"""`python -m svhn_sweep predict IMAGE...`: classifies pictures of digits."""

import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from svhn_sweep.data import picture
from svhn_sweep.data.splits import Images
from svhn_sweep.errors import DataError, FailedError, UserError
from svhn_sweep.native_output import redirect_native_output
from svhn_sweep.tracking import tracking_uri
from svhn_sweep.tracking.store_errors import explained

MIN_SURE_PROBABILITY = 0.9  # of 4,968 real test digits model2 had 95 % right above, 54 % below


def predict(paths: Sequence[Path], model: str | None = None) -> None:
    """Prints the digit in each picture, its probability, and a second one if the model is unsure.

    Args:
        paths: The pictures.
        model: The folder of a run or of a model, or MLflow's address of a model; None means the
            champion.

    Raises:
        DataError: Some of the files are no pictures; the digits in the others are printed.
        UserError: There is no such model, no champion is registered, or `MLFLOW_TRACKING_URI` is
            no store.
        FailedError: The model cannot be fetched from the store, or is damaged.
    """
    tracking_uri.check()
    pictures: list[tuple[Path, Images]] = []
    errors = []
    for path in paths:
        try:
            pictures.append((path, picture.read(path)))
        except DataError as error:
            errors.append(str(error))
    if pictures:
        _print_predictions(pictures, model)
    if errors:
        raise DataError(" ".join(errors))


def _print_predictions(pictures: Sequence[tuple[Path, Images]], model: str | None) -> None:
    with TemporaryDirectory() as scratch:
        name, folder = _champion(Path(scratch)) if model is None else _find(model, Path(scratch))
        print(f"{name}; starting TensorFlow, some 10 to 30 s", file=sys.stderr)
        probabilities = _classify(name, folder, np.stack([pixels for _, pixels in pictures]))
    table = Table.grid(padding=(0, 2))
    for (path, _), row in zip(pictures, probabilities, strict=True):
        table.add_row(Text(str(path)), *format_prediction(row))
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 1000
    console.print(table)


def _champion(scratch: Path) -> tuple[str, Path]:
    """Copies the champion's model to `scratch`; returns its name with its version, its folder."""
    from svhn_sweep.tracking.registry import ALIAS, MODEL, SYNTHETIC, fetch

    print(f"asking MLflow at {tracking_uri.address()} for the champion", file=sys.stderr)
    for name in (MODEL, SYNTHETIC):
        address = f"models:/{name}@{ALIAS}"
        with explained(address, partial(_refusal, address)):
            champion = fetch(name, scratch)
        if champion is not None:
            hint = ", trained on synthetic digits only" if name == SYNTHETIC else ""
            return f"{name} version {champion.version}{hint}", champion.folder
    raise UserError(
        f"no champion is registered at {tracking_uri.address()}; a sweep registers one when it has "
        "confirmed its best config: python -m svhn_sweep -m optuna ..., with the settings of a "
        "sweep that had confirm=null but without that. To name a model instead: "
        "python -m svhn_sweep predict --model outputs/DATE/TIME IMAGE..."
    )


def _find(model: str, scratch: Path) -> tuple[str, Path]:
    """Returns the name of the user's model, and its folder; MLflow's is copied to `scratch`."""
    if re.match(r"(runs|models):/", model):
        from svhn_sweep.tracking.registry import download

        print(f"asking MLflow at {tracking_uri.address()} for {model}", file=sys.stderr)
        with explained(model, partial(_refusal, model)):
            return model, download(model, scratch)
    for folder in (Path(model), Path(model) / "model"):
        if (folder / "MLmodel").is_file():
            return model, folder
    raise UserError(
        f"--model must be a run's folder with a model in it, runs:/RUN_ID/model, "
        f"models:/NAME/VERSION or models:/NAME@ALIAS but got {model}."
    )


def _refusal(model: str, reason: str) -> UserError:
    return UserError(f"{model} must be a model in MLflow but is not: {reason}.")


def _classify(name: str, folder: Path, pixels: Images) -> NDArray[np.float32]:
    """The probabilities of a model's ten digits for each picture, [N, 10]."""
    with redirect_native_output(Path(os.devnull)):
        # First, because it sets how TensorFlow computes.
        import svhn_sweep.training  # noqa: F401
        from svhn_sweep.tracking.saved_model import load_model

        try:
            probabilities: NDArray[np.float32] = load_model(folder).predict(pixels, verbose=0)
            if probabilities.shape != (len(pixels), 10) or not np.isfinite(probabilities).all():
                raise ValueError("its output is not ten probabilities for each picture")
        except Exception as error:  # of the parser of any of the model's files
            raise FailedError(
                f"{name} is damaged or not for grey pictures of 32x32 "
                f"({tracking_uri.reason(error)}); name another one with --model, or give the alias "
                "champion to another version."
            ) from error
    return probabilities


def format_prediction(probabilities: NDArray[np.float32]) -> list[str]:
    """Returns the cells of a picture's row.

    Args:
        probabilities: The digits' probabilities, [10].

    Returns:
        The most probable digit and its probability; the second digit too if the model is unsure.
    """
    second, first = np.argsort(probabilities)[-2:]
    cells = [str(first), f"{probabilities[first]:.1%}"]
    if probabilities[first] < MIN_SURE_PROBABILITY:
        cells.append(f"unsure: perhaps {second} ({probabilities[second]:.1%})")
    return cells
