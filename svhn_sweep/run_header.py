"""What the terminal says before and after a run."""

from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from svhn_sweep.config.schema import Config, SyntheticConfig
from svhn_sweep.data import Splits
from svhn_sweep.tracking.ui_links import links
from svhn_sweep.trial import Outcome

console = Console(highlight=False, soft_wrap=True, markup=False)


def before(config: Config, splits: Splits, experiment: str) -> None:
    """What is trained on what."""
    synthetic_warning(config, experiment)
    test = f" and {len(splits.x_test):,} to test" if splits.x_test is not None else ""
    digits = f"{len(splits.x_train):,} digits to train and validate{test}"
    console.print(f"{config.model.name}: {digits}; starting TensorFlow, some 10 to 30 s")


def synthetic_warning(config: Config, experiment: str) -> None:
    """Say loudly when the digits are not real."""
    if not isinstance(config.data, SyntheticConfig):
        return
    Console(highlight=False).print(
        Panel(
            "These digits are drawn: accuracies on them say nothing about SVHN, "
            f"and go to an MLflow experiment of their own, {experiment}.\n"
            "For real digits: data=svhn data.path=FILE, or data=stanford to download them.",
            title="SYNTHETIC DIGITS",
            border_style="yellow",
        )
    )


def after(outcome: Outcome, folder: Path, sent: bool) -> None:
    """The accuracies, and where everything is; `sent`: whether MLflow has it."""
    finals = outcome.finals
    table = Table("", "accuracy")
    table.add_row(
        f"validation, best epoch ({finals['val/best_epoch']:.0f})",
        f"{finals['val/best_accuracy']:.2%}",
    )
    table.add_row("validation, last epoch", f"{finals['val/final_accuracy']:.2%}")
    if "test/accuracy" in finals:
        table.add_row("test", f"{finals['test/accuracy']:.2%}")
    console.print(table)
    console.print(f"Everything about this run: {folder}")
    if sent:
        for line in links(folder):
            console.print(line)
