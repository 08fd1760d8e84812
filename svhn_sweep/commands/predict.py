"""`python -m svhn_sweep predict IMAGE...`: which digit a picture shows, as the champion sees it."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from svhn_sweep.data import picture
from svhn_sweep.errors import FailedError, UserError
from svhn_sweep.native_output import redirect_native_output
from svhn_sweep.tracking import tracking_uri

SURE = 0.9  # of 4,968 real test digits model2 had 95 % right above it, 54 % below


def predict(paths: Sequence[Path]) -> None:
    """Print the digit in each picture with its probability, and the second guess where the model is
    not sure.

    Raises:
        DataError: a file is no picture.
        UserError: no picture was named, no champion is registered, or `MLFLOW_TRACKING_URI` is no
            store.
        FailedError: the store did not hand it over.
    """
    if not paths:
        raise UserError("predict takes pictures of digits: python -m svhn_sweep predict IMAGE...")
    pixels = np.stack([picture.read(path) for path in paths])
    tracking_uri.check()
    with TemporaryDirectory() as scratch:
        folder = _champion(Path(scratch))
        with redirect_native_output(Path(os.devnull)):
            # before Keras: it chooses how TensorFlow computes
            import svhn_sweep.training  # noqa: F401
            from svhn_sweep.tracking.saved_model import load_model

            probabilities = load_model(folder).predict(pixels, verbose=0)
    table = Table.grid(padding=(0, 2))
    for path, row in zip(paths, probabilities, strict=True):
        table.add_row(Text(str(path)), *_said(row))
    Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 1000).print(
        table
    )


def _champion(scratch: Path) -> Path:
    """The champion's model, copied to `scratch`; says which it is."""
    from svhn_sweep.tracking.registry import ALIAS, MODEL, SYNTHETIC, fetch

    for name in (MODEL, SYNTHETIC):
        try:
            found = fetch(name, scratch)
        except Exception as error:
            raise FailedError(
                f"MLflow at {tracking_uri.address()} did not hand over "
                f"{name}@{ALIAS}: {tracking_uri.reason(error)}"
            ) from error
        if found is not None:
            break
    else:
        raise UserError(
            f"no {MODEL}@{ALIAS} is registered; python -m "
            "svhn_sweep -m optuna finds and registers one."
        )
    learnt = "; it learnt from drawn digits alone" if name == SYNTHETIC else ""
    print(f"{name} version {found.version}{learnt}", file=sys.stderr)
    return found.folder


def _said(probabilities: NDArray[np.float32]) -> list[str]:
    second, first = np.argsort(probabilities)[-2:]
    words = [str(first), f"{probabilities[first]:.1%}"]
    if probabilities[first] < SURE:
        words.append(f"unsure: perhaps {second} ({probabilities[second]:.1%})")
    return words
