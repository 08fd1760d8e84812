"""The schema of conf/hydra/sweeper/optuna.yaml: types and rules.

The command line imports this module at every start, so it must not import Optuna.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from svhn_sweep.config.rules import check_values, constrained, identifier, number, one_of
from svhn_sweep.errors import ConfigError
from svhn_sweep.sweep.plan.formatting import is_accuracy

LOG_FORMAT = (
    "[%(asctime)s][%(name)s][%(levelname)s] %(message)s"  # as in conf/hydra/job_logging/file.yaml
)
SWEEPER = "hydra_plugins.svhn_sweep_optuna.OptunaSweeper"


class Metric(StrEnum):
    """The metrics that a study can optimize, by their MLflow keys."""

    val_accuracy = "val/accuracy"
    val_loss = "val/loss"


@dataclass(frozen=True)
class WorkerCount:
    """Accepts `auto` and the numbers from 1 to `at_most`, as strings."""

    at_most: int

    def __contains__(self, value: object) -> bool:
        return value == "auto" or (str(value).isdecimal() and 1 <= int(str(value)) <= self.at_most)

    def __str__(self) -> str:
        return f"auto or a number from 1 to {self.at_most}"


class ClusterAddress:
    """Accepts `auto` and HOST:PORT."""

    def __contains__(self, value: object) -> bool:
        return value == "auto" or re.fullmatch(r"[^\s/]+:\d+", str(value)) is not None

    def __str__(self) -> str:
        return "null, auto or HOST:PORT"


@dataclass
class PrunerConfig:
    """The Optuna pruner.

    Attributes:
        name: The kind of pruner.
        startup_trials: The complete trials before the median pruner begins.
        min_resource: The epochs of a trial before it can be pruned; None means a third of them, but
            at most 4 unless augmentation or the schedule is explored.
    """

    name: str = one_of("none", "median", "successive_halving", "hyperband")
    startup_trials: int = number(at_least=0, at_most=1_000_000)
    min_resource: int | None = number(at_least=0, at_most=1_000_000)


@dataclass
class ConfirmConfig:
    """The confirmation of the best configs.

    Attributes:
        candidates: The best trials that race against each other and the baseline.
        max_seeds: The most fresh seeds that each of them is trained with; the race ends as soon as
            the leader's interval decides.
        margin: The largest difference of the metric to the baseline that counts as none.
        seeds: Fixed seeds for the best config and the baseline in place of a race; None means a
            race.
    """

    candidates: int = number(at_least=1, at_most=100)
    max_seeds: int = number(at_least=3, at_most=32)
    margin: float = number(at_least=0)
    seeds: int | None = number(at_least=2, at_most=1000)


@dataclass
class SweeperConfig:
    """The settings of a sweep: everything below `hydra.sweeper`.

    Attributes:
        _target_: Hydra's sweeper plugin.
        params: Overrides that have precedence over conf/search_space/, by config key.
        study_name: The name of the study; None derives it from all that makes trials comparable.
        storage: The URL of Optuna's database; None means optuna.db in the current folder.
        n_trials: The finished trials of each study: complete, pruned, diverged or failed.
        timeout: Seconds before the search stops; None means no limit.
        target_value: The search stops once the metric reaches this value; None means never.
        max_parameters: The most parameters of a trial's model, the baseline's apart; None means no
            limit.
        metric: What a study optimizes: the best value over the epochs of a trial.
        sampler: The Optuna sampler.
        pruner: The Optuna pruner.
        workers: The number of trials that are trained at a time.
        workers_per_gpu: The number of trials that share a GPU, with `workers=auto`.
        devices: GPU indices, or `cpu`; None means all GPUs or else the CPU.
        max_trials_per_worker: The trials after which a worker process is replaced.
        trial_timeout: Seconds after which a trial has failed, from 0 when it is continued; None
            means no limit.
        max_consecutive_failures: The failed trials in a row that end the sweep.
        cluster: The Ray cluster that trains; None means this machine.
        confirm: The confirmation of the best config; None skips it, the test evaluation and
            the registration.
        ensemble: The most different models in the ensemble of a search's trials; None means no
            ensemble.
        dry_run: Whether the plan is only shown.
    """

    _target_: str = SWEEPER
    params: dict[str, Any] = field(default_factory=dict)
    study_name: str | None = identifier()
    storage: str | None = MISSING
    n_trials: int = number(at_least=1, at_most=1_000_000)
    timeout: float | None = number(above=0)
    target_value: float | None = number()
    max_parameters: int | None = number(at_least=1)
    metric: str = one_of(*Metric)
    sampler: str = one_of("tpe", "random", "qmc")
    pruner: PrunerConfig = field(default_factory=PrunerConfig)
    workers: str = constrained(WorkerCount(1024))
    workers_per_gpu: str = constrained(WorkerCount(64))
    devices: list[str] | None = MISSING
    max_trials_per_worker: int = number(at_least=1, at_most=1_000_000)
    trial_timeout: float | None = number(above=0)
    max_consecutive_failures: int = number(at_least=1, at_most=1_000_000)
    cluster: str | None = constrained(ClusterAddress())
    confirm: ConfirmConfig | None = field(default_factory=ConfirmConfig)
    ensemble: int | None = number(at_least=2, at_most=10)
    dry_run: bool = MISSING

    @property
    def maximize(self) -> bool:
        """Whether a higher value of the metric is better."""
        return is_accuracy(self.metric)

    @property
    def direction(self) -> str:
        """Optuna's direction: `maximize` or `minimize`."""
        return "maximize" if self.maximize else "minimize"

    def best_value(self, values: Iterable[float]) -> float:
        """Returns the best of these values of the metric."""
        return max(values) if self.maximize else min(values)


NAMES = [item.name for item in fields(SweeperConfig) if item.name not in ("_target_", "params")]


def leaf_keys() -> list[str]:
    """Lists the keys of all settings that a value can be given, as `pruner.name`."""
    sections = {"pruner": PrunerConfig, "confirm": ConfirmConfig}
    keys: list[str] = []
    for name in NAMES:
        section = sections.get(name)
        keys += [f"{name}.{item.name}" for item in fields(section)] if section else [name]
    return keys


def setting(override: str) -> str | None:
    """Returns the setting that an override without `hydra.sweeper.` names, as `n_trials=6`."""
    name = re.split(r"[.=]", override.lstrip("+~"), maxsplit=1)[0]
    return name if name in NAMES else None


def register() -> None:
    """Registers the schema with Hydra under the name that conf/ uses."""
    ConfigStore.instance().store(group="hydra/sweeper", name="optuna_schema", node=SweeperConfig)


def to_sweeper_config(hydra: DictConfig) -> SweeperConfig:
    """Converts Hydra's own config into the checked settings of a sweep.

    Raises:
        ConfigError: A value is missing or breaks its rule.
    """
    settings = OmegaConf.to_object(hydra.sweeper)
    assert isinstance(settings, SweeperConfig)  # the first entry of optuna.yaml's defaults list
    check_values(settings, "hydra.sweeper.")
    target = settings.target_value
    if target is not None and is_accuracy(settings.metric) and not 0 <= target <= 1:
        raise ConfigError(
            f"hydra.sweeper.target_value must be from 0 to 1, as {settings.metric} is, but got "
            f"{target:g}."
        )
    return settings
