"""Prints what is trained on what before a run, and its accuracies afterwards."""

import shlex
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from svhn_sweep.config.data_sources import SyntheticConfig
from svhn_sweep.config.schema import Config
from svhn_sweep.console import console, print_text
from svhn_sweep.data import Splits, describe_imbalance, split_validation
from svhn_sweep.tracking import upload_state
from svhn_sweep.tracking.ui_links import links
from svhn_sweep.trial import TrialOutcome


def print_header(config: Config, splits: Splits, experiment: str, copies: str = "") -> None:
    """Prints warnings about the digits, their number, and the model.

    Args:
        config: Its data source is resolved.
        splits: The digits.
        experiment: The name of the MLflow experiment.
        copies: What `describe_copies` returns.

    Raises:
        DataError: There are too few digits to split.
    """
    print_synthetic_warning(config, experiment)
    print_validation_warning(
        describe_imbalance(split_validation(splits, config.training.validation_split))
    )
    print_copies(copies, splits.path)
    test = f" and {len(splits.x_test):,} to test" if splits.x_test is not None else ""
    digits = f"{len(splits.x_train):,} digits to train and validate{test}"
    print_text(f"{config.model.name}: {digits}; starting TensorFlow, some 10 to 30 s")


def print_synthetic_warning(config: Config, experiment: str) -> None:
    """Prints a warning if the digits are synthetic."""
    if not isinstance(config.data, SyntheticConfig):
        return
    _print_warning(
        "SYNTHETIC DIGITS",
        "These digits are synthetic: accuracies on them say nothing about SVHN, "
        f"and go to an MLflow experiment of their own, {experiment}.\n"
        "For real digits: data=svhn data.path=FILE, or data=stanford to download them.",
    )


def print_validation_warning(imbalance: str) -> None:
    """Prints a warning if the digits of validation are not those of training.

    Args:
        imbalance: What `describe_imbalance` returns.
    """
    if imbalance:
        _print_warning(
            "UNLIKE VALIDATION",
            f"Validation, the end of X_train, has {imbalance}, compared with the digits "
            "trained on: accuracies on it say little.\n"
            "Shuffle X_train and y_train together in the file, or take more digits.",
        )


def print_copies(copies: str, path: Path) -> None:
    """Prints in one line how many images are in two splits; nothing if none is.

    Args:
        copies: What `describe_copies` returns.
        path: The file of the digits.
    """
    if copies:
        command = shlex.join(["python", "-m", "svhn_sweep", "audit", str(path)])
        console.print(f"COPIES: {copies}; see {command}", style="yellow")


def _print_warning(title: str, text: str) -> None:
    Console(highlight=False).print(Panel(text, title=title, border_style="yellow"))


def print_summary(outcome: TrialOutcome, folder: Path, sent: bool) -> None:
    """Prints the accuracies of a run, its folder and its page in MLflow.

    Args:
        outcome: The result of the run, which is complete.
        folder: The run's folder.
        sent: Whether MLflow has the run.
    """
    metrics = outcome.summary_metrics
    table = Table("", "accuracy")
    table.add_row(
        f"validation, best epoch ({metrics['val/best_epoch']:.0f})",
        f"{metrics['val/best_accuracy']:.2%}",
    )
    table.add_row("validation, last epoch", f"{metrics['val/final_accuracy']:.2%}")
    if "test/accuracy" in metrics:
        table.add_row("test", f"{metrics['test/accuracy']:.2%}")
    console.print(table)
    console.print(f"Everything about this run: {folder}")
    if sent:
        for line in links(folder):
            console.print(line)


def print_interrupted(folder: Path) -> None:
    """Prints where an interrupted run is, also in MLflow, and that the next start begins anew.

    Args:
        folder: The run's folder.
    """
    print_text(
        f"A single run is not resumed: the same command starts a new one. This one is in {folder}"
    )
    if upload_state.load(folder) is not None:
        for line in links(folder):
            console.print(line)
