"""Checks the config of every job before Hydra creates the first job's folder."""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from svhn_sweep import output_folders
from svhn_sweep.config.composition import composition_errors
from svhn_sweep.config.flatten import check_effect
from svhn_sweep.config.overrides import override_value, sets_data_path, typed_overrides
from svhn_sweep.config.schema import Config, to_config
from svhn_sweep.errors import ConfigError, RefusedError
from svhn_sweep.grid import plan, start
from svhn_sweep.grid.combinations import combine
from svhn_sweep.grid.plan import GridRunPlan
from svhn_sweep.sweep.plan.settings import SWEEPER
from svhn_sweep.tracking import tracking_uri

MANY_JOBS = 20  # whose configs take two seconds to check


@dataclass(frozen=True)
class _Job:
    """A composed job of a grid.

    Attributes:
        folder: Its folder.
        overrides: The value of each override by its key.
        config: Its config.
    """

    folder: Path
    overrides: dict[str, str]
    config: Config


class CheckJobs(Callback):
    """Hydra callback that checks a single run, and a grid (`-m a=1,2 b=3,4`) as a whole.

    `conf/config.yaml` names it among Hydra's callbacks.
    """

    def on_run_start(self, config: DictConfig, **kwargs: object) -> None:
        """Checks the job of a single run.

        Raises:
            RefusedError: The config is not allowed.
        """
        _check(config)

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        """Checks every job of a multirun; a sweep with Optuna checks its search space itself.

        Raises:
            RefusedError: The config of a job is not allowed.
        """
        _check(config)


def _check(config: DictConfig) -> None:
    hydra = config.hydra
    try:
        if hydra.job.chdir:
            raise ConfigError(
                "hydra.job.chdir must be false: data, databases and runs are found from the "
                "current folder."
            )
        subdir = hydra.output_subdir
        if subdir is not None and Path(subdir).name != subdir:
            raise ConfigError(
                "hydra.output_subdir must be the name of a folder in the run's own, or null, but "
                f"is {subdir}."
            )
        tracking_uri.check()
        with composition_errors(typed_overrides(hydra.overrides.task)):
            if hydra.mode == RunMode.RUN:
                _check_run(config)
            elif hydra.sweeper is None:
                raise ConfigError("hydra.sweeper must not be null.")
            elif hydra.sweeper._target_ != SWEEPER:
                _check_jobs(config)
    except Exception as error:
        raise RefusedError(error) from error


def _check_run(composed: DictConfig) -> None:
    """Checks the config, the folder and the digits of a single run."""
    config, folder = _check_job(composed, "hydra.run.dir")
    output_folders.check_new_run("hydra.run.dir", folder)
    overrides = typed_overrides(composed.hydra.overrides.task)
    _check_inputs([config], overrides, test=config.evaluation.test is not False)


def _check_jobs(config: DictConfig) -> None:
    """Checks the config, the folder and the digits of every combination of the overrides' values.

    Then the grid begins, or the unfinished one of the same command is continued.
    """
    command = start.grid_command(config.hydra)
    folder = Path(str(config.hydra.sweep.dir))
    unfinished = start.find_unfinished(command, folder)
    if unfinished is None:
        output_folders.check_new_run("hydra.sweep.dir", folder)
    else:
        folder = unfinished[1]
        start.write_into(config, folder)
    overrides = _grid_overrides(config.hydra)
    jobs = _compose_jobs(config, overrides, is_new=unfinished is None)
    if not jobs:
        return
    _check_threads([job.config.training.threads for job in jobs])
    hashes = _check_inputs([job.config for job in jobs], overrides, test=False)
    runs = [
        GridRunPlan(
            path=os.path.relpath(job.folder, folder),
            overrides=job.overrides,
            model=job.config.model.name,
            seed=job.config.seed,
            settings=plan.settings_hash(job.config, weights),
            data_sha256=digits,
        )
        for job, (digits, weights) in zip(jobs, hashes, strict=True)
    ]
    if unfinished is None:
        start.begin_grid(command, jobs[0].config, overrides, runs, folder)
    else:
        start.continue_grid(unfinished[0], runs, folder)


def _grid_overrides(hydra: DictConfig) -> list[str]:
    """Returns the overrides of a multirun: `hydra.sweeper.params`, then the command line's."""
    params = (hydra.sweeper.get("params") or {}).items()
    return [*(f"{key}={value}" for key, value in params), *typed_overrides(hydra.overrides.task)]


def _compose_jobs(config: DictConfig, overrides: Sequence[str], *, is_new: bool) -> list[_Job]:
    """Composes each job as Hydra's launcher does, and checks its config and its folder.

    They share what `${now:...}` stands for: Hydra copies it from the multirun's config.
    """
    loader = GlobalHydra.instance().config_loader()
    parser = OverridesParser.create(loader)  # for glob(*)
    combinations = combine(parser.parse_overrides(list(overrides)))
    if len(combinations) > MANY_JOBS:
        print(f"{len(combinations)} runs: checks their configs first.", flush=True)
    sweep_dir = _normalized(Path(str(config.hydra.sweep.dir)))
    jobs: list[_Job] = []
    for number, combination in enumerate(combinations):
        composed = loader.load_sweep_config(config, combination)
        with open_dict(composed):
            composed.hydra.job.id = str(number)
            composed.hydra.job.num = number
        job_config, subdir = _check_job(composed, "hydra.sweep.subdir")
        if job_config.evaluation.test:
            raise ConfigError(
                "evaluation.test must not be true in a multirun, which compares on validation "
                "alone."
            )
        OmegaConf.copy_cache(from_config=composed, to_config=config)
        folder = _normalized(sweep_dir / subdir)
        _check_run_folder(folder, [sweep_dir, *(job.folder for job in jobs)], is_new=is_new)
        values = dict(override.lstrip("+~").partition("=")[::2] for override in combination)
        jobs.append(_Job(folder, values, job_config))
    _check_effects(jobs)
    return jobs


def _check_effects(jobs: Sequence[_Job]) -> None:
    """Checks that each override with several values changes something."""
    keys = jobs[0].overrides if jobs else {}
    varied = [key for key in keys if len({job.overrides[key] for job in jobs}) > 1]
    check_effect(varied, [job.config.training for job in jobs])


def _check_threads(threads: Sequence[int | None]) -> None:
    """Checks that the runs need not change TensorFlow's threads, which it cannot."""
    different = dict.fromkeys(map(override_value, threads))
    if len(different) > 1:
        raise ConfigError(
            "training.threads must be the same for all runs of one command but got "
            f"{', '.join(different)}; start a command for each."
        )


def _normalized(path: Path) -> Path:
    """Returns an absolute path without `..`."""
    return Path(os.path.normpath(path.absolute()))


def _check_run_folder(folder: Path, others: Sequence[Path], *, is_new: bool) -> None:
    """Checks the folder of a run; `others` are the grid's own, and those of the runs before."""
    if others[0] not in folder.parents:
        raise ConfigError(
            f"hydra.sweep.subdir must be a folder below hydra.sweep.dir but is {folder}."
        )
    if folder in others:
        raise ConfigError(
            f"hydra.sweep.subdir must differ between the runs but is "
            f"{os.path.relpath(folder, others[0])} for two of them."
        )
    if is_new:
        output_folders.check_new_run("hydra.sweep.dir", folder)
    else:
        output_folders.check_folder("hydra.sweep.dir", folder)


def _check_job(composed: DictConfig, folder_key: str) -> tuple[Config, Path]:
    """Checks the config of one job, with `${hydra:...}` as Hydra will set it for the job.

    Returns:
        The config, and the folder at a key of the section hydra.
    """
    composed = copy.deepcopy(composed)
    with read_write(composed.hydra), open_dict(composed.hydra):
        composed.hydra.runtime.output_dir = str(composed.hydra.run.dir)
    HydraConfig.instance().set_config(composed)
    try:
        folder = Path(str(OmegaConf.select(composed, folder_key)))
        with read_write(composed), open_dict(composed):
            del composed["hydra"]
        return to_config(composed), folder
    finally:
        HydraConfig.instance().cfg = None


def _check_inputs(
    configs: Sequence[Config], overrides: Sequence[str], *, test: bool
) -> list[tuple[str, str]]:
    """Loads the digits of each data source, and finds and checks the initial weights.

    The run need not read the digits again. Without this it would find them missing after Hydra has
    created its folder.

    Returns:
        The SHA-256 of each config's digits and of its initial weights, empty for random ones.
    """
    from svhn_sweep import data, transfer

    digests: dict[tuple[str, float], str] = {}  # by data source and validation split
    hashes = []
    for config in configs:
        source = data.resolve(config.data, path_given=sets_data_path(overrides))
        split = config.training.validation_split
        key = (str(source), split)
        if key not in digests:
            splits = data.load(source, test=test)
            data.split_validation(splits, split)
            data.describe_copies(splits, split)  # reads the splits that the run does not load
            digests[key] = splits.sha256
        weights = None
        if config.training.initial_weights is not None:
            weights = transfer.resolve(config, data.load(source, test=test))
        hashes.append((digests[key], weights.sha256 if weights else ""))
    return hashes
