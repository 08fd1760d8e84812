"""A config is checked before its folder is made, a grid (`-m a=1,2 b=3,4`) as a whole before its first job."""

import itertools

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from svhn_sweep.config import from_composed
from svhn_sweep.errors import RefusedError
from svhn_sweep.explain import SAID_BY_THE_USER
from svhn_sweep.sweep.settings import SWEEPER


class CheckJobs(Callback):
    """Composes and checks every job; conf/config.yaml names it among Hydra's callbacks."""

    def on_run_start(self, config: DictConfig, **kwargs: object) -> None:
        self.on_multirun_start(config)

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        if config.hydra.sweeper._target_ == SWEEPER:
            return  # no grid: the sweep checks its search space itself
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        choices = [
            [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
            if override.is_sweep_override()
            else [str(override.input_line)]
            for override in overrides
        ]
        for job in itertools.product(*choices):
            try:
                from_composed(compose(config.hydra.job.config_name, list(job)))
            except SAID_BY_THE_USER as error:
                raise RefusedError(error) from error
