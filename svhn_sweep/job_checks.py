"""Checks the config of every job before Hydra creates the first job's folder."""

import copy
import itertools

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from svhn_sweep.config.composition import composition_errors
from svhn_sweep.config.overrides import typed_overrides
from svhn_sweep.config.schema import Config, to_config
from svhn_sweep.errors import ConfigError, RefusedError
from svhn_sweep.sweep.plan.settings import SWEEPER
from svhn_sweep.tracking import tracking_uri


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
                _check_job(config)
            elif OmegaConf.select(hydra, "sweeper._target_") != SWEEPER:
                _check_jobs(config)
    except Exception as error:
        raise RefusedError(error) from error


def _check_jobs(config: DictConfig) -> None:
    """Composes the config of every combination of the overrides' values as Hydra's launcher does.

    All jobs share what `${now:...}` stands for: Hydra copies it from the multirun's config.
    """
    loader = GlobalHydra.instance().config_loader()
    parser = OverridesParser.create(loader)  # for glob(*)
    overrides = parser.parse_overrides(typed_overrides(config.hydra.overrides.task))
    for number, job in enumerate(itertools.product(*map(_values, overrides))):
        composed = loader.load_sweep_config(config, list(job))
        with open_dict(composed):
            composed.hydra.job.id = str(number)
            composed.hydra.job.num = number
        if _check_job(composed).evaluation.test:
            raise ConfigError(
                "evaluation.test must not be true in a multirun, which compares on validation "
                "alone."
            )
        OmegaConf.copy_cache(from_config=composed, to_config=config)


def _check_job(composed: DictConfig) -> Config:
    """Checks the config of one job, with `${hydra:...}` as Hydra will set it for the job."""
    composed = copy.deepcopy(composed)
    with read_write(composed.hydra), open_dict(composed.hydra):
        composed.hydra.runtime.output_dir = str(composed.hydra.run.dir)
    HydraConfig.instance().set_config(composed)
    try:
        with read_write(composed), open_dict(composed):
            del composed["hydra"]
        return to_config(composed)
    finally:
        HydraConfig.instance().cfg = None


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
