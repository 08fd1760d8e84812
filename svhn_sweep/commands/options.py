"""The options of ui, sync, predict and audit, whose modules are imported after the check."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from svhn_sweep.errors import UserError
from svhn_sweep.tracking.run_folders import RUN_FOLDERS
from svhn_sweep.tracking.ui_links import LOOPBACK, port


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(
            prog=f"python -m svhn_sweep {command}", description=description, allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        """Raises a UserError."""
        raise UserError(f"{self.prog.rpartition(' ')[2]}: {message}; see {self.prog} --help.")


def parse_ui(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns `host` and `port`, both strings.

    Raises:
        UserError: The arguments are no options of ui.
    """
    parser = _Parser("ui", "Starts MLflow's UI on the runs of this folder; Ctrl-C ends it.")
    parser.add_argument(
        "--port",
        default=port(),
        help="the port that it listens on; default: the variable MLFLOW_PORT, or 5000",
    )
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        help="the address that it listens on; default: %(default)s, for this machine alone. With "
        "0.0.0.0 whoever reaches the machine can read, change and delete the runs. MLflow answers "
        "to private IP addresses, or to those in MLFLOW_SERVER_ALLOWED_HOSTS=NAME:PORT,...",
    )
    return parser.parse_intermixed_args(arguments)


def parse_sync(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns `folders`, a list of paths.

    Raises:
        UserError: The arguments are no options of sync.
    """
    parser = _Parser("sync", "Uploads what the MLflow store lacks of runs; again is harmless.")
    parser.add_argument(
        "folders",
        nargs="*",
        metavar="FOLDER",
        type=Path,
        help="all runs at or below it are uploaded; "
        f"default: {' and '.join(map(str, RUN_FOLDERS))}",
    )
    return parser.parse_intermixed_args(arguments)


def parse_predict(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns `images`, a list of paths, and `model`, a string or None.

    Raises:
        UserError: The arguments are no options of predict.
    """
    parser = _Parser("predict", "Prints the digit in each picture and its probability.")
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", type=Path, help="a picture of one digit, of any size"
    )
    parser.add_argument(
        "--model",
        help="a run's folder, such as outputs/DATE/TIME, or an address of MLflow's: "
        "runs:/RUN_ID/model, models:/NAME/VERSION or models:/NAME@ALIAS; default: the champion "
        "that a sweep has registered, models:/svhn-digits@champion",
    )
    return parser.parse_intermixed_args(arguments)


def parse_audit(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns `arguments`, a list of strings.

    Raises:
        UserError: The arguments are no options of audit.
    """
    parser = _Parser(
        "audit",
        "Finds copies and near copies among the digits, within and between training, validation "
        "and test, and draws them; nothing is removed.",
    )
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="FILE or KEY=VALUE",
        help="a data file, or overrides of the config as for a run, such as data=stanford or "
        "training.validation_split=0.1; default: the digits of a run without overrides",
    )
    return parser.parse_intermixed_args(arguments)
