"""The schema of conf/: types and rules. The values stand in the YAML files, once."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from svhn_sweep.errors import ConfigError

CONFIG = "config"  # conf/config.yaml, from which all configs are composed
MAX_SEED = 2**32 - 1  # NumPy's


class Rule(Protocol):
    """What a value must be: `value in rule`, and `str(rule)` to say it."""

    def __contains__(self, value: object) -> bool: ...


@dataclass(frozen=True)
class Range:
    """The rule for a number; infinity and NaN are in no range."""

    at_least: float = -math.inf
    above: float = -math.inf
    at_most: float = math.inf
    below: float = math.inf

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return self.at_least <= value <= self.at_most and self.above < value < self.below

    def __str__(self) -> str:
        words = (
            ("at least", self.at_least),
            ("greater than", self.above),
            ("at most", self.at_most),
            ("less than", self.below),
        )
        return " and ".join(f"{word} {bound}" for word, bound in words if math.isfinite(bound))


class Identifier:
    """The rule for what becomes part of a layer's, a file's or an experiment's name."""

    def __contains__(self, value: object) -> bool:
        return re.fullmatch(r"[A-Za-z0-9][\w.-]*", str(value), re.ASCII) is not None

    def __str__(self) -> str:
        return "letters, digits, '.', '_' and '-', beginning with a letter or digit,"


def number(**bounds: float) -> Any:
    """A mandatory number, or dict of numbers, that `from_composed` holds to these bounds."""
    return field(default=MISSING, metadata={"rule": Range(**bounds)})


def identifier() -> Any:
    """A mandatory name that `from_composed` checks."""
    return field(default=MISSING, metadata={"rule": Identifier()})


class Precision(StrEnum):
    """Of the layers' arithmetic, in Keras' words; the softmax and all variables are float32."""

    auto = "auto"  # the fastest that this machine's hardware computes in without loss of accuracy
    float32 = "float32"
    mixed_bfloat16 = "mixed_bfloat16"
    mixed_float16 = "mixed_float16"


@dataclass
class ModelConfig:
    name: str = identifier()
    filters: dict[str, int] = number(at_least=1, at_most=1024)
    batch_norm: bool = MISSING
    dense_units: int = number(at_least=1, at_most=65536)
    dropout: float = number(at_least=0, below=1)
    leaky_relu_slope: float = number(at_least=0, below=1)


@dataclass
class PlateauConfig:
    enabled: bool = MISSING
    factor: float = number(above=0, below=1)
    patience: int = number(at_least=0, at_most=1_000_000)
    min_learning_rate: float = number(at_least=0)


@dataclass
class AugmentationConfig:
    enabled: bool = MISSING
    shift: float = number(at_least=0, below=1)
    rotation: float = number(at_least=0, at_most=0.5)
    zoom: float = number(at_least=0, below=1)


@dataclass
class TrainingConfig:
    epochs: int = number(at_least=1, at_most=1_000_000)
    batch_size: int = number(at_least=1, at_most=1_000_000)
    learning_rate: float = number(above=0)
    validation_split: float = number(above=0, below=1)
    restore_best_weights: bool = MISSING
    precision: Precision = MISSING
    threads: int | None = number(at_least=1, at_most=1024)
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
    train_size: int = number(at_least=10, at_most=1_000_000)
    test_size: int = number(at_least=10, at_most=1_000_000)
    seed: int = number(at_least=0, at_most=MAX_SEED)


@dataclass
class StanfordConfig(DataConfig):
    folder: str = MISSING
    extra: bool = MISSING
    train_size: int = number(at_least=10, at_most=1_000_000)
    test_size: int = number(at_least=10, at_most=1_000_000)
    seed: int = number(at_least=0, at_most=MAX_SEED)


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
    experiment: str = identifier()
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
    seed: int = number(at_least=0, at_most=MAX_SEED)


def register_schema() -> None:
    """Make the classes above known to Hydra under the names that conf/ uses."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for source, node in SOURCES.items():
        store.store(group="data", name=f"{source}_schema", node=node)


def conf_dir() -> Path:
    """conf/ inside an installed package, or beside the package in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def from_composed(composed: DictConfig) -> Config:
    """The typed config that Hydra composed.

    Raises:
        ConfigError: a key was appended that no schema knows, or a value breaks its rule.
    """
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)  # the schema stands first in conf/config.yaml
    check(config, "")
    _check_filters(config.model.filters)
    return config


def check(section: object, prefix: str) -> None:
    """Hold every value below a dataclass to its rule, and refuse attributes that the schema lacks.

    Args:
        section: values; None where the type allows it.
        prefix: what stands before their names in messages: "model.".

    Raises:
        ConfigError: a key was appended that no schema knows, or a value breaks its rule.
    """
    assert is_dataclass(section)
    known = {entry.name: entry for entry in fields(section)}
    for name, value in vars(section).items():
        key = prefix + name
        if name not in known:
            raise ConfigError(f"{key} is not a key of the config; there are {', '.join(known)}.")
        if is_dataclass(value):
            check(value, f"{key}.")
        elif isinstance(value, dict):
            for entry, item in value.items():
                _check_value(f"{key}.{entry}", item, known[name].metadata.get("rule"))
        else:
            _check_value(key, value, known[name].metadata.get("rule"))


def _check_value(key: str, value: object, rule: Rule | None) -> None:
    if value == MISSING:
        raise ConfigError(f"{key} must have a value but has none.")
    if rule is not None and value is not None and value not in rule:
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(
                f"{key} must be {f'a finite number {rule}'.rstrip()} but got {value!r}."
            )
        raise ConfigError(f"{key} must be {rule} but got {value!r}.")


def _check_filters(filters: dict[str, int]) -> None:
    expected = [f"conv{index}" for index in range(1, len(filters) + 1)]
    if sorted(filters) != sorted(expected) or len(filters) not in (2, 4, 6, 8, 10):
        raise ConfigError(
            "model.filters must name 2, 4, 6, 8 or 10 convolutions, "
            "conv1, conv2 and so on without a gap, "
            f"but got {', '.join(filters) or 'none'}."
        )


def flatten(section: object, prefix: str = "") -> Iterator[tuple[str, str | int | float | bool]]:
    """Dotted keys and values of what is in force: a part that is not enabled gives only
    `enabled`.
    """
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
