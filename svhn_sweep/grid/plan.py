"""The runs of a grid, in a file in its folder from which the same command continues it."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from omegaconf import OmegaConf

from svhn_sweep.config.overrides import shell_command
from svhn_sweep.config.schema import Config
from svhn_sweep.config.short_names import short_names
from svhn_sweep.errors import ConfigError, DataError
from svhn_sweep.files import write_atomically
from svhn_sweep.sweep.plan.formatting import format_items
from svhn_sweep.tracking.journal import Journal

FILE = "grid.json"
FOLDER = re.compile(r"[+~]*hydra\.sweep\.dir=")


@dataclass(frozen=True)
class GridCommand:
    """A command that starts a grid, and continues it.

    Attributes:
        arguments: The overrides as the user typed them, those of Hydra's own config first.
        config_dirs: The user's own config folders.
        variables: The environment's variables that change numbers.
    """

    arguments: list[str]
    config_dirs: list[str]
    variables: dict[str, str]

    def shell(self) -> str:
        """Returns the command as a line for a shell."""
        return shell_command(["-m", *self.arguments], self.config_dirs)

    @property
    def names_folder(self) -> bool:
        """Whether the user typed the grid's folder."""
        return any(map(FOLDER.match, self.arguments))

    def is_same_grid(self, other: "GridCommand") -> bool:
        """Returns whether two commands have the same runs, in whichever folder."""
        return self._without_folder() == other._without_folder()

    def _without_folder(self) -> "GridCommand":
        return replace(self, arguments=[item for item in self.arguments if not FOLDER.match(item)])


@dataclass(frozen=True)
class GridRunPlan:
    """One run of a grid.

    Attributes:
        path: Its folder, relative to the grid's.
        overrides: The value of each override by its key; all runs of a grid have the same keys.
        model: The model's name.
        seed: Its seed.
        settings: A hash of all settings that change numbers, but not of the digits.
        data_sha256: The digits' SHA-256.
    """

    path: str
    overrides: dict[str, str]
    model: str
    seed: int
    settings: str
    data_sha256: str


@dataclass(frozen=True)
class Grid:
    """A grid.

    Attributes:
        key: Distinguishes it from other grids; the tag `grid` of its runs.
        command: The command that started it.
        experiment: The MLflow experiment of its own run.
        tags: The user's tags.
        threads: TensorFlow's threads where the config leaves them open.
        precision: What the precision `auto` means.
        runs: Its runs in their order; at least one.
    """

    key: str
    command: GridCommand
    experiment: str
    tags: dict[str, str]
    threads: int
    precision: str
    runs: list[GridRunPlan]

    @property
    def configs(self) -> dict[str, str]:
        """The config of each run by its path: the overrides that vary, without the seed."""
        names = short_names(self.varying)
        configs = {}
        for run in self.runs:
            labels = [
                run.overrides[key] if key == "model" else f"{names[key]} {run.overrides[key]}"
                for key in self.varying
            ]
            configs[run.path] = " · ".join(labels) or run.model
        return configs

    @property
    def varying(self) -> list[str]:
        """The keys of the overrides that differ between the runs, without the seed."""
        keys = [key for key in self.runs[0].overrides if key != "seed"]
        return [key for key in keys if len({run.overrides[key] for run in self.runs}) > 1]

    @property
    def name(self) -> str:
        """For example `grid · 2 configs x 5 seeds`."""
        n_configs = len(set(self.configs.values()))
        n_seeds = len({run.seed for run in self.runs})
        return f"grid · {format_items(n_configs, 'config')} x {format_items(n_seeds, 'seed')}"

    def check_unchanged(self, folder: Path, now: Sequence[GridRunPlan]) -> None:
        """Checks that the same command still means the same runs.

        Args:
            folder: The grid's folder.
            now: The runs that the command means now.

        Raises:
            DataError: The digits have changed.
            ConfigError: The settings have changed, in a file.
        """
        advice = f"{folder} holds an unfinished grid of this command; move it away to start anew."
        if [run.data_sha256 for run in self.runs] != [run.data_sha256 for run in now]:
            raise DataError(
                f"the digits must not change during a grid but have another SHA-256 now: {advice}"
            )
        if self.runs != list(now):
            raise ConfigError(
                "config files and initial weights must not change during a grid but do not give "
                f"the same runs now: {advice}"
            )


def settings_hash(config: Config, initial_weights: str) -> str:
    """Returns a hash of the settings that change a run's numbers, but not of the digits.

    Args:
        config: The run's config.
        initial_weights: Their SHA-256; empty for random ones.
    """
    model, training = map(OmegaConf.structured, (config.model, config.training))
    text = OmegaConf.to_yaml(OmegaConf.create([model, training, config.seed, initial_weights]))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save(grid: Grid, folder: Path) -> None:
    """Writes a grid's file."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FILE, json.dumps(asdict(grid), indent=1))


def load(folder: Path) -> Grid | None:
    """Reads a grid's file; None if there is none, or none that this version can read."""
    try:
        values = json.loads((folder / FILE).read_text(encoding="utf-8"))
        command = GridCommand(**values.pop("command"))
        runs = [GridRunPlan(**run) for run in values.pop("runs")]
        return Grid(command=command, runs=runs, **values)
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError, AttributeError):
        return None


def open_journal(folder: Path) -> Journal:
    """Opens the journal of a grid's own run, which one process at a time may hold.

    Raises:
        ConfigError: Another process holds it.
    """
    try:
        return Journal(folder)
    except BlockingIOError as error:
        raise ConfigError(
            f"the grid in {folder} must have one process at a time, but another one trains it; "
            "wait for it or stop it."
        ) from error
