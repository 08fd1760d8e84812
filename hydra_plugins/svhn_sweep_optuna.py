"""The doorway that Hydra requires: `hydra/sweeper=optuna` leads to svhn_sweep.sweep. Imported on
every start.
"""

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSweeper(Sweeper):
    """Hands the composed config and the user's overrides over."""

    def __init__(self, **settings: object) -> None:
        """`settings`: conf/hydra/sweeper/optuna.yaml, which `setup` gets as well, with its
        types.
        """

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config = config

    def sweep(self, arguments: list[str]) -> None:
        from svhn_sweep.sweep.run import run

        assert self.config is not None  # Hydra calls setup first
        run(self.config, arguments)
