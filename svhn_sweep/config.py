"""The schema of conf/: types and rules. The values stand in the YAML files, once."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from svhn_sweep.errors import ConfigError


@dataclass(frozen=True)
class Range:
    """The rule for a number: `at_least <= value`, `above < value`, `value <= at_most`, `value < below`."""

    at_least: float = -math.inf
    above: float = -math.inf
    at_most: float = math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        within_closed = self.at_least <= value <= self.at_most
        return within_closed and (value > self.above) and (value < self.below)

    def __str__(self) -> str:
        words = (
            ("at least", self.at_least),
            ("greater than", self.above),
            ("at most", self.at_most),
            ("less than", self.below),
        )
        return " and ".join(f"{word} {bound:g}" for word, bound in words if math.isfinite(bound))


def number(**bounds: float) -> Any:
    """A mandatory number, or dict of numbers, that `from_composed` holds to these bounds."""
    return field(default=MISSING, metadata={"range": Range(**bounds)})


class Precision(StrEnum):
    float32 = "float32"
    mixed_bfloat16 = "mixed_bfloat16"


@dataclass
class ModelConfig:
    name: str = MISSING
    filters: dict[str, int] = number(at_least=1, at_most=1024)
    batch_norm: bool = MISSING
    dense_units: int = number(at_least=1, at_most=65536)
    dropout: float = number(at_least=0, below=1)
    leaky_relu_slope: float = number(at_least=0, below=1)


@dataclass
class PlateauConfig:
    enabled: bool = MISSING
    factor: float = number(above=0, below=1)
    patience: int = number(at_least=0)
    min_learning_rate: float = number(at_least=0, below=math.inf)


@dataclass
class AugmentationConfig:
    enabled: bool = MISSING
    shift: float = number(at_least=0, below=1)
    rotation: float = number(at_least=0, at_most=0.5)
    zoom: float = number(at_least=0, below=1)


@dataclass
class TrainingConfig:
    epochs: int = number(at_least=1)
    batch_size: int = number(at_least=1)
    learning_rate: float = number(above=0, below=math.inf)
    validation_split: float = number(above=0, below=1)
    restore_best_weights: bool = MISSING
    precision: Precision = MISSING
    reduce_on_plateau: PlateauConfig = field(default_factory=PlateauConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)


@dataclass
class DataConfig:
    """What every data source is: one of the classes below."""


@dataclass
class SvhnConfig(DataConfig):
    path: str = MISSING


@dataclass
class SyntheticConfig(DataConfig):
    folder: str = MISSING
    train_size: int = number(at_least=10)
    test_size: int = number(at_least=10)
    seed: int = number(at_least=0, below=2**32)


@dataclass
class StanfordConfig(DataConfig):
    folder: str = MISSING
    extra: bool = MISSING
    train_size: int = number(at_least=10)
    test_size: int = number(at_least=10)
    seed: int = number(at_least=0, below=2**32)
    base_url: str = MISSING
    sha256: dict[str, str] = MISSING


@dataclass
class AutoConfig(DataConfig):
    path: str = MISSING
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)


SOURCES: dict[str, type[DataConfig]] = {
    "auto": AutoConfig,
    "svhn": SvhnConfig,
    "stanford": StanfordConfig,
    "synthetic": SyntheticConfig,
}


def source_of(config: DataConfig) -> str:
    """The name by which a data source is chosen: data=NAME."""
    return next(name for name, kind in SOURCES.items() if type(config) is kind)


@dataclass
class EvaluationConfig:
    test: bool | None = None


@dataclass
class TrackingConfig:
    experiment: str = MISSING
    log_model: bool = MISSING


@dataclass
class Config:
    """One trial. `OmegaConf.to_object` turns a composed config into it."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    search_space: dict[str, str] = field(default_factory=dict)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    seed: int = number(at_least=0, below=2**32)


def register_schema() -> None:
    """Make the classes above known to Hydra under the names that conf/ uses."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for source, node in SOURCES.items():
        store.store(group="data", name=f"{source}_schema", node=node)


def conf_dir() -> Path:
    """conf/ inside an installed package, or beside the package in a checkout."""
    package = Path(__file__).parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def from_composed(composed: DictConfig) -> Config:
    """The typed config that Hydra composed.

    Raises:
        ConfigError: a key was appended that no schema knows, or a value breaks its rule.
    """
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)  # the schema stands first in conf/config.yaml
    _check_section(config, "")
    _check_filters(config.model.filters)
    return config


def _check_section(section: object, prefix: str) -> None:
    """Hold every number below `section` to its range, and refuse attributes that the schema lacks."""
    assert is_dataclass(section)
    known = {entry.name: entry for entry in fields(section)}
    for name, value in vars(section).items():
        key = prefix + name
        if name not in known:
            raise ConfigError(f"{key} is not a key of the config; there are {', '.join(known)}.")
        allowed = known[name].metadata.get("range")
        if is_dataclass(value):
            _check_section(value, f"{key}.")
        elif allowed is not None:
            numbers = value.items() if isinstance(value, dict) else [(None, value)]
            for entry, entry_value in numbers:
                if entry_value not in allowed:
                    path = key if entry is None else f"{key}.{entry}"
                    raise ConfigError(f"{path} must be {allowed} but got {entry_value}.")


def _check_filters(filters: dict[str, int]) -> None:
    expected = [f"conv{index}" for index in range(1, len(filters) + 1)]
    if sorted(filters) != sorted(expected) or len(filters) not in (2, 4, 6, 8, 10):
        raise ConfigError(
            "model.filters must name 2, 4, 6, 8 or 10 convolutions, conv1, conv2 and so on without a gap, "
            f"but got {', '.join(filters) or 'none'}."
        )


def flatten(section: object, prefix: str = "") -> Iterator[tuple[str, str | int | float | bool]]:
    """Dotted keys and values of what is in force: a part that is not enabled gives only `enabled`."""
    assert is_dataclass(section)
    enabled = getattr(section, "enabled", True)
    for entry in fields(section):
        value = getattr(section, entry.name)
        key = prefix + entry.name
        if not enabled and entry.name != "enabled":
            continue
        if is_dataclass(value):
            yield from flatten(value, f"{key}.")
        elif isinstance(value, dict):
            yield from ((f"{key}.{name}", item) for name, item in value.items())
        else:
            yield key, value
