"""Registers the sweeper `hydra/sweeper=optuna` with Hydra, which imports this at every start."""

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from rich.console import Console

from svhn_sweep.errors import RefusedError


class OptunaSweeper(Sweeper):
    """Runs a sweep with `svhn_sweep.sweep`, which is imported when it starts."""

    def __init__(self, **settings: object) -> None:
        """Ignores the settings of conf/hydra/sweeper/optuna.yaml: `setup` gets them with types."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Stores the composed config."""
        self.config = config

    def sweep(self, arguments: list[str]) -> None:
        """Runs the sweep.

        Args:
            arguments: The user's overrides of the trials' config.

        Raises:
            RefusedError: The sweep ended with an error.
        """
        console = Console(highlight=False)
        if console.is_terminal:  # elsewhere nobody waits, and an error is the only line
            console.print("preparing the sweep: loads Optuna, reads the digits")
        from svhn_sweep.sweep.run import run_sweep

        assert self.config is not None  # Hydra calls setup first
        try:
            run_sweep(self.config, arguments)
        except Exception as error:
            raise RefusedError(error) from error
