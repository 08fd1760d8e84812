"""What driver and worker say to each other. A worker is `__main__`, so these classes need a module of their own."""

from dataclasses import dataclass
from pathlib import Path

from svhn_sweep.trial import Label


@dataclass(frozen=True)
class Task:
    """A trial as the driver hands it over.

    Attributes:
        overrides: what it trains, with nothing left open.
        config_dirs: the user's own folders of configs.
        folder: where it lives; what an interrupted trial left there is continued.
        label: what MLflow is told about it.
        patience: seconds that it waits for the driver's word after an epoch, and then trains on; None: until it comes.
    """

    overrides: tuple[str, ...]
    config_dirs: tuple[str, ...]
    folder: Path
    label: Label
    patience: float | None = None


@dataclass(frozen=True)
class Epoch:
    """An epoch is over; the driver answers whether to stop."""

    epoch: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Ended:
    """A trial is over: complete, pruned, diverged or failed. `reason`: in words."""

    state: str
    reason: str


@dataclass(frozen=True)
class OutOfMemory:
    """A trial could not go on beside the others. `reason`: in words."""

    reason: str


@dataclass(frozen=True)
class Judge:
    """Models to be judged on test, after selection.

    Attributes:
        overrides: of a config that names the data.
        config_dirs: the user's own folders of configs.
        models: folders of runs that saved a model, by arm.
        shown: for each arm the run whose confusion matrix is drawn.
        folder: gets test/ARM/ with matrices and reports.
    """

    overrides: tuple[str, ...]
    config_dirs: tuple[str, ...]
    models: dict[str, tuple[Path, ...]]
    shown: dict[str, Path]
    folder: Path


@dataclass(frozen=True)
class Judged:
    """Test accuracies, 0..1, by arm, in the order of the models."""

    accuracies: dict[str, list[float]]
