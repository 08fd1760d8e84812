"""Trains the model of one of Hydra's jobs: a single run, or a run of a grid."""

import os
from dataclasses import replace
from pathlib import Path

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from svhn_sweep import data, machine, output_folders, run_header, transfer
from svhn_sweep.config.overrides import (
    pin_interpolations,
    pin_overrides,
    run_mode,
    run_name,
    run_role,
    sets_data_path,
    shell_command,
    typed_overrides,
    user_config_dirs,
)
from svhn_sweep.config.schema import Config, EvaluationConfig, Precision, to_config
from svhn_sweep.errors import FailedError, Terminated
from svhn_sweep.grid.run import GridRun
from svhn_sweep.tracking import tracking_uri
from svhn_sweep.tracking.background_uploader import BackgroundUploader
from svhn_sweep.tracking.run_folders import RUN_FOLDERS
from svhn_sweep.tracking.run_info import RunInfo
from svhn_sweep.trial import TrialOutcome, experiment_name, run_trial
from svhn_sweep.trial_status import TrialStatus


def train(composed: DictConfig) -> None:
    """Trains the model of a single run.

    Args:
        composed: The composed config, without its section `hydra`.

    Raises:
        FailedError: The training diverged.
    """
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    output_folders.check_no_run("hydra.run.dir", folder)  # another process may have been faster
    config = _resolve(to_config(composed), job)
    try:
        with BackgroundUploader([folder], RUN_FOLDERS) as uploader:
            outcome = _run(composed, config, job)
    except (KeyboardInterrupt, Terminated):
        run_header.print_interrupted(folder)
        raise
    run_header.print_summary(outcome, folder, uploader.sent)


def train_in_grid(composed: DictConfig, grid: GridRun) -> None:
    """Trains the model of a run of a grid, or resumes it; returns at once if it is over.

    Args:
        composed: The composed config, without its section `hydra`.
        grid: The grid's run.

    Raises:
        FailedError: The training diverged.
    """
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    path = os.path.relpath(folder, grid.folder.absolute())
    if grid.is_over(path):
        return
    grid.begin(path)
    try:
        outcome = _run(composed, _resolve(to_config(composed), job, grid), job, grid)
    finally:
        grid.record(path)
    run_header.print_summary(outcome, folder, sent=False)


def _run(
    composed: DictConfig, config: Config, job: HydraConf, grid: GridRun | None = None
) -> TrialOutcome:
    """Trains and records a run; one of a grid is resumable and nested in the grid's run."""
    folder = Path(job.runtime.output_dir)
    typed = typed_overrides(job.overrides.task)
    splits = data.load(config.data, test=bool(config.evaluation.test))
    grid_tags: dict[str, str] = {}
    parent = ""
    if grid is not None:
        path = os.path.relpath(folder, grid.folder.absolute())
        grid.check_digits(path, splits.sha256)
        grid_tags = grid.tags(path)
        parent = os.path.relpath(grid.folder.absolute(), folder)
    initial_weights = transfer.resolve(config, splits)
    config = transfer.with_address(config, initial_weights)
    experiment = experiment_name(config)
    copies = data.describe_copies(splits, config.training.validation_split)
    run_header.print_header(config, splits, experiment, copies)
    overrides = pin_overrides(pin_interpolations(typed, composed), config)
    command = shell_command([*overrides, *run_mode(job)], user_config_dirs(job))
    role = run_role(typed, job.runtime.choices)
    tags = {**config.tracking.tags, **data.copies_tag(copies), "role": role, **grid_tags}
    run_info = RunInfo(
        run_name(typed, config), experiment, tracking_uri.address(), {**tags}, parent
    )
    outcome = run_trial(
        config,
        splits,
        folder,
        command,
        run_info,
        initial_weights=initial_weights,
        resumable=grid is not None,
    )
    if outcome.status == TrialStatus.diverged:
        raise FailedError(
            "training diverged: the loss is not finite at "
            f"training.learning_rate={config.training.learning_rate:g}; "
            f"try a smaller one. The run is kept in {folder}."
        )
    return outcome


def _resolve(config: Config, job: HydraConf, grid: GridRun | None = None) -> Config:
    """Replaces what the config leaves open by what it means on this machine and for this job.

    A grid that is continued on another machine keeps its number of threads and its precision.
    """
    test = config.evaluation.test
    if test is None:  # jobs of a multirun are compared, and must not look at the test split
        test = job.mode == RunMode.RUN
    training = config.training
    precision = training.precision
    if grid is not None and precision == Precision.auto:
        precision = Precision(grid.grid.precision)
    threads = training.threads or (machine.cores() if grid is None else grid.grid.threads)
    path_given = sets_data_path(typed_overrides(job.overrides.task))
    return replace(
        config,
        data=data.resolve(config.data, path_given=path_given),
        training=replace(
            training,
            precision=machine.resolve_precision(precision, machine.visible_gpus()),
            threads=threads,
        ),
        evaluation=EvaluationConfig(test),
    )
