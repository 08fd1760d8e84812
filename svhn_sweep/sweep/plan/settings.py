"""The schema of conf/hydra/sweeper/optuna.yaml: types and rules. Quick to import: the door
registers it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from svhn_sweep.config.schema import check, identifier, number

LOG_FORMAT = "[%(asctime)s][%(name)s][%(levelname)s] %(message)s"  # conf/config.yaml's
SWEEPER = "hydra_plugins.svhn_sweep_optuna.OptunaSweeper"


class Metric(StrEnum):
    """What a study optimises, of each trial's epochs the best; the values are MLflow's keys."""

    val_accuracy = "val/accuracy"
    val_loss = "val/loss"


class OneOf:
    """The rule for a text that is one of a few."""

    def __init__(self, *options: str) -> None:
        self.options = options

    def __contains__(self, value: object) -> bool:
        return value in self.options

    def __str__(self) -> str:
        return f"one of {', '.join(self.options)}"


class WorkerCount:
    """The rule for `workers` and `workers_per_gpu`."""

    def __init__(self, at_most: int) -> None:
        self.at_most = at_most

    def __contains__(self, value: object) -> bool:
        return value == "auto" or (str(value).isdecimal() and 1 <= int(str(value)) <= self.at_most)

    def __str__(self) -> str:
        return f"auto or a number from 1 to {self.at_most}"


class ClusterAddress:
    """The rule for `cluster`."""

    def __contains__(self, value: object) -> bool:
        return value == "auto" or re.fullmatch(r"[^\s/]+:\d+", str(value)) is not None

    def __str__(self) -> str:
        return "null, auto or HOST:PORT"


def one_of(*options: str) -> Any:
    """A mandatory text that is one of these."""
    return field(default=MISSING, metadata={"rule": OneOf(*options)})


@dataclass
class PrunerConfig:
    name: str = one_of("none", "median", "successive_halving", "hyperband")
    startup_trials: int = number(at_least=0, at_most=1_000_000)
    min_resource: int = number(at_least=0, at_most=1_000_000)


@dataclass
class ConfirmConfig:
    seeds: int = number(at_least=2, at_most=1000)


@dataclass
class SweeperConfig:
    """How a sweep goes about it."""

    _target_: str = SWEEPER
    params: dict[str, Any] = field(default_factory=dict)
    study_name: str | None = identifier()
    storage: str | None = MISSING
    n_trials: int = number(at_least=1, at_most=1_000_000)
    timeout: float | None = number(above=0)
    target_value: float | None = number()
    metric: str = one_of(*Metric)
    sampler: str = one_of("tpe", "random", "qmc")
    pruner: PrunerConfig = field(default_factory=PrunerConfig)
    workers: str = field(default=MISSING, metadata={"rule": WorkerCount(1024)})
    workers_per_gpu: str = field(default=MISSING, metadata={"rule": WorkerCount(64)})
    devices: list[str] | None = MISSING
    max_trials_per_worker: int = number(at_least=1, at_most=1_000_000)
    trial_timeout: float | None = number(above=0)
    max_consecutive_failures: int = number(at_least=1, at_most=1_000_000)
    cluster: str | None = field(default=MISSING, metadata={"rule": ClusterAddress()})
    confirm: ConfirmConfig | None = field(default_factory=ConfirmConfig)
    dry_run: bool = MISSING

    @property
    def maximize(self) -> bool:
        """Whether more of the metric is better."""
        return self.metric.endswith("accuracy")

    def best(self, values: Iterable[float]) -> float:
        """Of some values of the metric."""
        return max(values) if self.maximize else min(values)

    @property
    def direction(self) -> str:
        """The same in Optuna's word."""
        return "maximize" if self.maximize else "minimize"


def register() -> None:
    """Make the schema known to Hydra under the name that conf/ uses."""
    ConfigStore.instance().store(group="hydra/sweeper", name="optuna_schema", node=SweeperConfig)


def from_composed(hydra: DictConfig) -> SweeperConfig:
    """The settings that Hydra composed below `hydra.sweeper`.

    Raises:
        ConfigError: a value breaks its rule.
    """
    settings = OmegaConf.to_object(hydra.sweeper)
    assert isinstance(settings, SweeperConfig)  # the schema stands first in optuna.yaml
    check(settings, "hydra.sweeper.")
    return settings
