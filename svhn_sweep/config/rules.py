"""Rules for the values of a config, kept in the metadata of its fields, and their check."""

import math
import re
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol

from omegaconf import MISSING

from svhn_sweep.errors import ConfigError


class Rule(Protocol):
    """A constraint: `value in rule` tests it, `str(rule)` completes "KEY must be ..."."""

    def __contains__(self, value: object) -> bool: ...


@dataclass(frozen=True)
class Range:
    """Accepts numbers between these bounds, but neither infinity nor NaN."""

    at_least: float = -math.inf
    above: float = -math.inf
    at_most: float = math.inf
    below: float = math.inf

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return self.at_least <= value <= self.at_most and self.above < value < self.below

    def __str__(self) -> str:
        bounds = {
            "at least": self.at_least,
            "greater than": self.above,
            "at most": self.at_most,
            "less than": self.below,
        }
        return " and ".join(
            f"{name} {bound}" for name, bound in bounds.items() if math.isfinite(bound)
        )


class Identifier:
    """Accepts what can be part of a layer's, a file's or an experiment's name.

    Two of them and a suffix fit into a file's name (255 bytes) and the name of an experiment or the
    key of a tag in MLflow (256 and 250 characters).
    """

    MAX_LENGTH = 100

    def __contains__(self, value: object) -> bool:
        name = str(value)
        fits = len(name) <= self.MAX_LENGTH
        return fits and re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII) is not None

    def __str__(self) -> str:
        return (
            f"at most {self.MAX_LENGTH} letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit,"
        )


@dataclass(frozen=True)
class Line:
    """Accepts text that MLflow shows in one line."""

    at_most: int

    def __contains__(self, value: object) -> bool:
        text = str(value)
        return text.isprintable() and text.strip() == text and 0 < len(text) <= self.at_most

    def __str__(self) -> str:
        return f"one line of 1 to {self.at_most} characters without spaces around it"


@dataclass(frozen=True)
class OneOf:
    """Accepts the strings in `options`."""

    options: tuple[str, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.options

    def __str__(self) -> str:
        return f"one of {', '.join(self.options)}"


# The functions below return `Any`, as `dataclasses.field` does: they stand where a value would.


def constrained(rule: Rule) -> Any:
    """Declares a mandatory field whose value `check_values` holds to a rule."""
    return field(default=MISSING, metadata={"rule": rule})


def number(**bounds: float) -> Any:
    """Declares a mandatory number, or dict of numbers, within bounds; see `Range`."""
    return constrained(Range(**bounds))


def identifier() -> Any:
    """Declares a mandatory name; see `Identifier`."""
    return constrained(Identifier())


def one_of(*options: str) -> Any:
    """Declares a mandatory string that is one of the options."""
    return constrained(OneOf(options))


def check_values(section: object, prefix: str = "") -> None:
    """Checks every value of a dataclass, and of the dataclasses in it, against its rule.

    Args:
        section: An instance of a dataclass; None breaks no rule.
        prefix: Precedes the field names in error messages, for example "model.".

    Raises:
        ConfigError: An attribute is not in the schema, or a value is missing or breaks its rule.
    """
    assert is_dataclass(section)
    rules = {item.name: item.metadata.get("rule") for item in fields(section)}
    for name, value in vars(section).items():
        key = prefix + name
        if name not in rules:
            raise ConfigError(f"{key} is not a key of the config; there are {', '.join(rules)}.")
        if is_dataclass(value):
            check_values(value, f"{key}.")
        elif isinstance(value, dict):
            for item_name, item in value.items():
                _check_value(f"{key}.{item_name}", item, rules[name])
        else:
            _check_value(key, value, rules[name])


def _check_value(key: str, value: object, rule: Rule | None) -> None:
    if value == MISSING:
        raise ConfigError(f"{key} must have a value but has none.")
    if rule is None or value is None or value in rule:
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key} must be {f'a finite number {rule}'.rstrip()} but got {value!r}.")
    raise ConfigError(f"{key} must be {rule} but got {value!r}.")
