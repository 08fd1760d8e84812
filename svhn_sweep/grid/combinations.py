"""Lists the combinations of the values of a grid's overrides, as Hydra's own sweeper does."""

import itertools
import math
from collections.abc import Sequence

from hydra.core.override_parser.types import Override, RangeSweep

from svhn_sweep.errors import ConfigError

# Every config is composed once before the first run and then by Hydra, 0.1 s each.
MAX_JOBS = 200


def combine(overrides: Sequence[Override]) -> list[list[str]]:
    """Returns the overrides of each job; of several overrides of one key the last one counts.

    Raises:
        ConfigError: There are too many jobs, or the values of an override are no list.
    """
    last = {override.get_key_element(): override for override in overrides}.values()
    count = math.prod(map(_value_count, last))
    if count > MAX_JOBS:
        raise ConfigError(
            f"a grid must have at most {MAX_JOBS} runs but this one has {count:,}; start parts "
            "of it, or search it: python -m svhn_sweep -m optuna ..."
        )
    return [list(combination) for combination in itertools.product(*map(_values, last))]


def _value_count(override: Override) -> int:
    """Returns the number of values of an override, without a list of them: a range has any size."""
    value = override.value()
    if isinstance(value, RangeSweep):
        assert value.start is not None
        assert value.stop is not None
        if not value.step:
            raise ConfigError(
                f"{override.key_or_group} must be a range whose step is not 0 but got "
                f"{override.input_line}."
            )
        return max(0, math.ceil((value.stop - value.start) / value.step))
    return sum(1 for _ in override.sweep_iterator()) if override.is_discrete_sweep() else 1


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
