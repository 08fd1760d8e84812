"""A config is checked before its folder is made, a grid (`-m a=1,2 b=3,4`) as a whole before its first job."""

import itertools

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from svhn_sweep.config import from_composed
from svhn_sweep.errors import ConfigError, RefusedError
from svhn_sweep.explain import SAID_BY_THE_USER
from svhn_sweep.sweep.settings import SWEEPER


class CheckJobs(Callback):
    """Composes and checks every job; conf/config.yaml names it among Hydra's callbacks."""

    def on_run_start(self, config: DictConfig, **kwargs: object) -> None:
        self.on_multirun_start(config)

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        if config.hydra.sweeper._target_ == SWEEPER:
            return  # no grid: the sweep checks its search space itself
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())  # glob(*) asks it for names
        overrides = parser.parse_overrides(list(config.hydra.overrides.task))
        try:
            for job in itertools.product(*map(_values, overrides)):
                from_composed(compose(config.hydra.job.config_name, list(job)))
        except SAID_BY_THE_USER as error:
            raise RefusedError(error) from error


def _values(override: Override) -> list[str]:
    """Each value as an override of its own."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep():
        raise ConfigError(
            f"{override.key_or_group} must have a list of values, each of which is run, but got {override.input_line}; "
            "to search a range: python -m svhn_sweep -m optuna ..."
        )
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
