"""Optuna's distributions from overrides in Hydra's grammar, and the points of each."""

import math
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
)
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from svhn_sweep.config.overrides import Value, override_value
from svhn_sweep.errors import ConfigError

Numeric = IntDistribution | FloatDistribution


def to_distribution(
    override: Override, baseline: Value, *, has_baseline: bool = True
) -> BaseDistribution:
    """Converts a sweep override into the distribution of one key.

    `choice` and lists of values become categorical, `range` excludes its end, `interval` includes
    both ends, and the tag `log` makes it logarithmic. Shuffling is ignored, since a resumed study
    needs the same order.

    Args:
        override: Parsed by Hydra.
        baseline: The key's value in the baseline. If it is an integer, an interval with integral
            bounds has integers only; if it is a float, the integers of a choice become floats.
        has_baseline: Whether the distribution must contain that value.

    Raises:
        ConfigError: It is no sweep, Optuna cannot draw from it, it has fewer than two points, or
            it does not contain the baseline.
    """
    sweep = override.value()
    distribution: CategoricalDistribution | Numeric
    if isinstance(sweep, ChoiceSweep):
        distribution = _choice(sweep, override, baseline)
    elif isinstance(sweep, RangeSweep):
        distribution = _range(sweep, override)
    elif isinstance(sweep, IntervalSweep):
        distribution = _interval(sweep, override, baseline)
    else:
        raise _error(override, "be choice(...), values between commas, range(...) or interval(...)")
    if type(baseline) is int and _has_floats(distribution):
        raise _error(
            override,
            f"be searched in integers like the baseline's {baseline}, for example with int(...),",
        )
    if has_baseline and not contains(distribution, baseline):
        raise ConfigError(
            f"{override.key_or_group}: the baseline's {override_value(baseline)} must be in its "
            f"own search space but that is {override.get_value_string()}."
        )
    return distribution


def snap_to_step(distribution: BaseDistribution, value: Value) -> Value:
    """Rounds a value drawn from a stepped float distribution to the nearest exact step.

    Optuna draws 0.1 + 2 * 0.1, which is not the 0.3 of range(0.1, 0.5, 0.1). Categories would keep
    the exact values, but then a sampler would not know that 0.3 lies between 0.2 and 0.4.

    Returns:
        The rounded value; values of other distributions are returned as they are.
    """
    if not isinstance(distribution, FloatDistribution) or distribution.step is None:
        return value
    assert isinstance(value, int | float)
    low = _decimal(distribution.low)
    step = _decimal(distribution.step)
    return float(low + round((_decimal(value) - low) / step) * step)


def format_distribution(distribution: BaseDistribution) -> str:
    """Formats a distribution, for example `8 to 32 in steps of 8` or `1e-04 to 1e-02, log`."""
    if isinstance(distribution, CategoricalDistribution):
        return f"one of {', '.join(map(override_value, distribution.choices))}"
    assert isinstance(distribution, Numeric)
    ends = (distribution.low, distribution.high)
    step = distribution.step
    if distribution.log and isinstance(distribution, FloatDistribution):
        low, high = (np.format_float_scientific(end, trim="-", exp_digits=2) for end in ends)
    else:
        low, high = (f"{end:.15g}" for end in ends)
    if distribution.log:
        return f"{low} to {high}, log"
    every_number = step is None or (step == 1 and isinstance(distribution, IntDistribution))
    return f"{low} to {high}" + ("" if every_number else f" in steps of {step:.15g}")


def bounds(distribution: BaseDistribution) -> Sequence[Value]:
    """Returns the lowest and the highest value of a range, or all values of a choice."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, Numeric)
    return distribution.low, distribution.high


def contains(distribution: BaseDistribution, value: Value) -> bool:
    """Returns whether a value is a point of a distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    assert isinstance(distribution, Numeric)
    low = distribution.low
    if isinstance(distribution, IntDistribution):
        return low <= value <= distribution.high and (value - low) % distribution.step == 0
    point = snap_to_step(distribution, value)
    assert isinstance(point, float)
    return low <= point <= distribution.high and math.isclose(point, value)


def n_points(distribution: BaseDistribution) -> int:
    """Counts the points of a distribution; 0 if it is continuous."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, Numeric)
    if distribution.step is None:
        return 0
    length = _decimal(distribution.high) - _decimal(distribution.low)
    return int(length / _decimal(distribution.step)) + 1


def to_index(distribution: BaseDistribution, value: Value) -> int:
    """Returns the index of a value among the points of a distribution; 0 if it is continuous."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices.index(value)
    assert isinstance(distribution, Numeric)
    assert isinstance(value, int | float)
    return round((value - distribution.low) / distribution.step) if distribution.step else 0


def from_index(distribution: BaseDistribution, index: int) -> Value:
    """Returns the point of a finite distribution at an index."""
    if isinstance(distribution, CategoricalDistribution):
        choice: Value = distribution.choices[index]
        return choice
    assert isinstance(distribution, Numeric)
    assert distribution.step is not None
    value = distribution.low + index * distribution.step
    return snap_to_step(distribution, value)


def _choice(sweep: ChoiceSweep, override: Override, baseline: Value) -> CategoricalDistribution:
    values = [item.text if isinstance(item, QuotedString) else item for item in sweep.list]
    scalars = [value for value in values if value is None or isinstance(value, str | int | float)]
    _require(
        len(scalars) == len(values), override, "be chosen among strings, numbers, booleans and null"
    )
    if isinstance(baseline, float):
        scalars = [float(value) if type(value) is int else value for value in scalars]
    _require(len(scalars) > 1, override, "have at least two values")
    # 1, 1.0 and true are one value to Optuna.
    _require(len(set(scalars)) == len(scalars), override, "have each value once")
    return CategoricalDistribution(scalars)


def _range(sweep: RangeSweep, override: Override) -> Numeric:
    assert sweep.start is not None
    assert sweep.stop is not None
    numbers = (sweep.start, sweep.stop, sweep.step)
    _require(all(map(math.isfinite, numbers)), override, "have finite bounds and a finite step")
    _require(sweep.step > 0, override, "have a step greater than 0")
    start, stop, step = map(_decimal, numbers)
    points = math.ceil((stop - start) / step)
    _require(points > 1, override, "have at least two values")
    last = start + (points - 1) * step
    log = "log" in sweep.tags
    integers = all(isinstance(number, int) for number in numbers)
    _require(
        not log or (integers and step == 1 and start > 0),
        override,
        "be integers above 0 in steps of 1 for log",
    )
    if integers:
        return IntDistribution(int(start), int(last), log=log, step=int(step))
    return FloatDistribution(float(start), float(last), step=float(step))


def _interval(sweep: IntervalSweep, override: Override, baseline: Value) -> Numeric:
    assert sweep.start is not None
    assert sweep.end is not None
    low = sweep.start
    high = sweep.end
    log = "log" in sweep.tags
    _require(math.isfinite(low) and math.isfinite(high), override, "have finite bounds")
    _require(low < high, override, "have a lower bound less than the upper")
    _require(not log or low > 0, override, "have a lower bound greater than 0 for log")
    # Hydra parses interval(16, 64) as 16.0 and 64.0; only int(interval(16, 64)) keeps integers.
    integral = float(low).is_integer() and float(high).is_integer()
    if isinstance(low, int) or (type(baseline) is int and integral):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(low, high, log=log)


def _has_floats(distribution: BaseDistribution) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return any(isinstance(choice, float) for choice in distribution.choices)
    return isinstance(distribution, FloatDistribution)


def _require(condition: bool, override: Override, rule: str) -> None:
    if not condition:
        raise _error(override, rule)


def _error(override: Override, rule: str) -> ConfigError:
    return ConfigError(
        f"{override.key_or_group} must {rule} but got {override.get_value_string()}."
    )


def _decimal(number: float) -> Decimal:
    """The number as written: 0.9 is 3 * 0.3, and so the excluded end of range(0, 0.9, 0.3)."""
    return Decimal(repr(+number))  # +True is 1
