"""Begins a grid, or continues the unfinished one of the same command, before its first run."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig, open_dict, read_write

from svhn_sweep import environment, machine
from svhn_sweep.config.overrides import (
    sets_data_path,
    to_override,
    typed_overrides,
    user_config_dirs,
)
from svhn_sweep.config.schema import Config, Precision
from svhn_sweep.grid import plan
from svhn_sweep.grid.plan import Grid, GridCommand, GridRunPlan
from svhn_sweep.grid.results import count_left, read_results
from svhn_sweep.tracking.run_folders import MULTIRUN


def grid_command(hydra: DictConfig) -> GridCommand:
    """Returns the command of a multirun from the section `hydra` of its config."""
    own = typed_overrides(hydra.overrides.hydra)
    return GridCommand(
        arguments=[
            *(override for override in own if not override.startswith("hydra.mode=")),
            *typed_overrides(hydra.overrides.task),
        ],
        config_dirs=user_config_dirs(hydra),
        variables=environment.numeric_variables(),
    )


def find_unfinished(command: GridCommand, folder: Path) -> tuple[Grid, Path] | None:
    """Finds the grid that a command continues.

    Args:
        command: The command.
        folder: The folder that it would write into; if the command names it or it holds a grid, no
            other one is looked for.

    Returns:
        The newest unfinished grid of the same command, and its folder; None if there is none.
    """
    files = sorted(MULTIRUN.glob(f"*/*/{plan.FILE}"), reverse=True)
    only_here = command.names_folder or (folder / plan.FILE).exists()
    for candidate in [folder] if only_here else [path.parent for path in files]:
        grid = plan.load(candidate)
        if grid is None or not grid.command.is_same_grid(command):
            continue
        if count_left(read_results(grid, candidate).values()):
            return grid, candidate
    return None


def write_into(config: DictConfig, folder: Path) -> None:
    """Lets a multirun write into a folder: Hydra composes each job anew from its overrides."""
    with read_write(config), open_dict(config):
        config.hydra.sweep.dir = str(folder)
        config.hydra.overrides.hydra.append(to_override("hydra.sweep.dir", str(folder)))


def begin_grid(
    command: GridCommand,
    config: Config,
    overrides: Sequence[str],
    runs: Sequence[GridRunPlan],
    folder: Path,
) -> None:
    """Writes the file of a new grid, and prints its folder.

    Args:
        command: The command.
        config: The config of the first run.
        overrides: The user's overrides.
        runs: The runs.
        folder: The grid's folder.
    """
    from svhn_sweep import data
    from svhn_sweep.trial import experiment_name

    source = data.resolve(config.data, path_given=sets_data_path(overrides))
    grid = Grid(
        key=uuid.uuid4().hex[:8],
        command=command,
        experiment=experiment_name(replace(config, data=source)),
        tags={key: str(value) for key, value in config.tracking.tags.items()},
        threads=machine.cores(),
        precision=machine.resolve_precision(Precision.auto, machine.visible_gpus()).value,
        runs=list(runs),
    )
    plan.save(grid, folder)
    print(f"{grid.name} in {folder}", flush=True)


def continue_grid(grid: Grid, runs: Sequence[GridRunPlan], folder: Path) -> None:
    """Checks that a grid can be continued, and prints how many runs are left.

    Args:
        grid: The unfinished grid.
        runs: The runs that its command means now.
        folder: The grid's folder.

    Raises:
        ConfigError: Another process trains it, or its settings have changed in a file.
        DataError: The digits have changed.
    """
    grid.check_unchanged(folder, runs)
    plan.open_journal(folder).close()
    left = count_left(read_results(grid, folder).values())
    print(
        f"{grid.name}: continues in {folder}, {left} of {len(runs)} runs are "
        "left; hydra.sweep.dir=FOLDER starts another one",
        flush=True,
    )
