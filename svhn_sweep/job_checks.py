"""Checks the config of every job before Hydra creates the first job's folder."""

import copy
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from svhn_sweep import output_folders
from svhn_sweep.config.composition import composition_errors
from svhn_sweep.config.overrides import sets_data_path, typed_overrides
from svhn_sweep.config.schema import Config, to_config
from svhn_sweep.errors import ConfigError, RefusedError
from svhn_sweep.sweep.plan.settings import SWEEPER
from svhn_sweep.tracking import tracking_uri

# Every config is composed here and then by Hydra, 0.1 s each, before the first run.
MAX_JOBS = 200
MANY_JOBS = 20


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
    _check_digits([config], overrides, test=config.evaluation.test is not False)


def _check_jobs(config: DictConfig) -> None:
    """Checks the config, the folder and the digits of every combination of the overrides' values.

    Each job is composed as Hydra's launcher does. They share what `${now:...}` stands for: Hydra
    copies it from the multirun's config.
    """
    loader = GlobalHydra.instance().config_loader()
    parser = OverridesParser.create(loader)  # for glob(*)
    typed = typed_overrides(config.hydra.overrides.task)
    overrides = parser.parse_overrides(typed)
    _check_count(overrides)
    configs = []
    folders = set()
    for number, job in enumerate(itertools.product(*map(_values, overrides))):
        composed = loader.load_sweep_config(config, list(job))
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
        folder = Path(str(config.hydra.sweep.dir)) / subdir
        output_folders.check_new_run("hydra.sweep.dir", folder)
        if folder in folders:
            raise ConfigError(
                f"hydra.sweep.subdir must differ between the runs but is {subdir} for two of them."
            )
        folders.add(folder)
        configs.append(job_config)
    _check_digits(configs, typed, test=False)


def _check_count(overrides: Sequence[Override]) -> None:
    count = math.prod(map(_value_count, overrides))
    if count > MAX_JOBS:
        raise ConfigError(
            f"a grid must have at most {MAX_JOBS} runs but this one has {count:,}; start parts "
            "of it, or search it: python -m svhn_sweep -m optuna ..."
        )
    if count > MANY_JOBS:
        print(f"{count} runs: checks their configs first.", flush=True)


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


def _check_digits(configs: Sequence[Config], overrides: Sequence[str], *, test: bool) -> None:
    """Loads the digits of each data source and checks the initial weights.

    The run need not read the digits again. Without this it would find them missing after Hydra has
    created its folder.
    """
    from svhn_sweep import data, transfer

    checked = []
    for config in configs:
        source = data.resolve(config.data, path_given=sets_data_path(overrides))
        split = config.training.validation_split
        if (source, split) not in checked:
            checked.append((source, split))
            data.split_validation(data.load(source, test=test), split)
        if config.training.initial_weights is not None:
            transfer.resolve(config, data.load(source, test=test))


def _value_count(override: Override) -> int:
    """Returns the number of values of an override, without a list of them: a range has any size."""
    value = override.value()
    if isinstance(value, RangeSweep):
        assert value.start is not None
        assert value.stop is not None
        if not value.step:
            raise ConfigError(
                f"{override.key_or_group} must be a range whose step is not 0 but got "
                f"{override.input_line}."
            )
        return max(0, math.ceil((value.stop - value.start) / value.step))
    return sum(1 for _ in override.sweep_iterator()) if override.is_discrete_sweep() else 1


def _values(override: Override) -> list[str]:
    """Returns one override for each value of a sweep override."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep():
        raise ConfigError(
            f"{override.key_or_group} must have a list of values, each of which is run, "
            f"but got {override.input_line}; "
            "to search a range: python -m svhn_sweep -m optuna ..."
        )
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
