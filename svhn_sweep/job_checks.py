"""Checks the config of every job before Hydra creates the first job's folder."""

import itertools

from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from svhn_sweep.config.error_messages import USER_ERRORS
from svhn_sweep.config.schema import compose_config
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
        _check(config.hydra)

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        """Checks every job of a multirun; a sweep with Optuna checks its search space itself.

        Raises:
            RefusedError: The config of a job is not allowed.
        """
        _check(config.hydra)


def _check(hydra: HydraConf) -> None:
    try:
        if hydra.job.chdir:
            raise ConfigError(
                "hydra.job.chdir must be false: data, databases and runs are found from the "
                "current folder."
            )
        tracking_uri.check()
        if hydra.sweeper._target_ != SWEEPER:
            _check_jobs(hydra)
    except USER_ERRORS as error:
        raise RefusedError(error) from error


def _check_jobs(hydra: HydraConf) -> None:
    """Composes the config of every combination of the overrides' values."""
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())  # for glob(*)
    overrides = parser.parse_overrides(list(hydra.overrides.task))
    for job in itertools.product(*map(_values, overrides)):
        config = compose_config(job)
        if config.evaluation.test and hydra.mode == RunMode.MULTIRUN:
            raise ConfigError(
                "evaluation.test must not be true in a multirun, which compares on validation "
                "alone."
            )


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
