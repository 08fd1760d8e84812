"""The search space: what Optuna may try for a key, from what Hydra's override grammar says."""

import math
from collections.abc import Mapping
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

from svhn_sweep.errors import ConfigError
from svhn_sweep.provenance import quoted

Value = str | int | float | bool | None
Numeric = IntDistribution | FloatDistribution


def distribution(override: Override, baseline: Value) -> BaseDistribution:
    """What Optuna draws from for one key.

    A choice or a list of values is categorical, `range` excludes its end, `interval` includes both;
    the tag `log` draws by the logarithm. Shuffling changes nothing: a study that is resumed needs
    the same order.

    Args:
        override: parsed by Hydra from text.
        baseline: the key's value in the config around which is searched; it must be in the space.
            An integer makes an interval with whole bounds one of integers, a float makes the
            integers of a choice floats.

    Raises:
        ConfigError: not a space, one that Optuna cannot draw from, of fewer than two points, or
            without the baseline.
    """
    sweep = override.value()
    space: CategoricalDistribution | Numeric
    if isinstance(sweep, ChoiceSweep):
        space = _choice(sweep, override, baseline)
    elif isinstance(sweep, RangeSweep):
        space = _range(sweep, override)
    elif isinstance(sweep, IntervalSweep):
        space = _interval(sweep, override, baseline)
    else:
        raise _error(override, "be choice(...), values between commas, range(...) or interval(...)")
    if type(baseline) is int and _gives_floats(space):
        raise _error(
            override,
            f"be searched in integers like the baseline's {baseline}, for example with int(...),",
        )
    if not _contains(space, baseline):
        raise ConfigError(
            f"{override.key_or_group}: the baseline's "
            f"{quoted(baseline)} must be in its own search space "
            f"but that is {override.get_value_string()}."
        )
    return space


def exact(distribution: BaseDistribution, value: Value) -> Value:
    """The point that a sampler means: it draws 0.1 + 2 * 0.1, which is not the 0.3 of range(0.1,
    0.5, 0.1).

    Stepped floats are no categories, although those would come out as written: a sampler is to know
    that 0.3 lies between 0.2 and 0.4.
    """
    if not isinstance(distribution, FloatDistribution) or distribution.step is None:
        return value
    assert isinstance(value, int | float)
    low = _decimal(distribution.low)
    step = _decimal(distribution.step)
    return float(low + round((_decimal(value) - low) / step) * step)


def to_override(key: str, value: Value) -> str:
    """The override key=value, which Hydra parses back to the same value and type; of floats,
    every digit.
    """
    return f"{key}={quoted(value)}"


def describe(distribution: BaseDistribution) -> str:
    """The space in a few words, such as `8 to 32 in steps of 8` or `1e-04 to 1e-02, log`."""
    if isinstance(distribution, CategoricalDistribution):
        return f"one of {', '.join(map(quoted, distribution.choices))}"
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


def size(distributions: Mapping[str, BaseDistribution]) -> int | None:
    """How many points there are in all; None if a distribution is continuous."""
    points = 1
    for space in distributions.values():
        if isinstance(space, CategoricalDistribution):
            points *= len(space.choices)
            continue
        assert isinstance(space, Numeric)
        if space.step is None:
            return None
        points *= int((_decimal(space.high) - _decimal(space.low)) / _decimal(space.step)) + 1
    return points


def _choice(sweep: ChoiceSweep, override: Override, baseline: Value) -> CategoricalDistribution:
    values = [item.text if isinstance(item, QuotedString) else item for item in sweep.list]
    scalars = [item for item in values if item is None or isinstance(item, str | int | float)]
    _require(
        len(scalars) == len(values), override, "be chosen among strings, numbers, booleans and null"
    )
    if isinstance(baseline, float):
        scalars = [float(item) if type(item) is int else item for item in scalars]
    _require(len(scalars) > 1, override, "have at least two values")
    _require(
        len(set(scalars)) == len(scalars), override, "have each value once"
    )  # true is Optuna's 1
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
    # Hydra's interval(16, 64) has the bounds 16.0 and 64.0; only int(interval(16, 64)) arrives with
    # integers.
    whole = float(low).is_integer() and float(high).is_integer()
    if isinstance(low, int) or (type(baseline) is int and whole):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(low, high, log=log)


def _contains(space: CategoricalDistribution | Numeric, value: Value) -> bool:
    if isinstance(space, CategoricalDistribution):
        return value in space.choices
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    if isinstance(space, IntDistribution):
        return space.low <= value <= space.high and (value - space.low) % space.step == 0
    point = exact(space, value)
    assert isinstance(point, float)
    return space.low <= point <= space.high and math.isclose(point, value)


def _gives_floats(space: BaseDistribution) -> bool:
    if isinstance(space, CategoricalDistribution):
        return any(isinstance(choice, float) for choice in space.choices)
    return isinstance(space, FloatDistribution)


def _require(holds: bool, override: Override, rule: str) -> None:
    if not holds:
        raise _error(override, rule)


def _error(override: Override, rule: str) -> ConfigError:
    return ConfigError(
        f"{override.key_or_group} must {rule} but got {override.get_value_string()}."
    )


def _decimal(number: float) -> Decimal:
    """The number as it is written: in decimals, 0.9 is three times 0.3 and the end of range(0,
    0.9, 0.3).
    """
    return Decimal(repr(+number))  # +true is 1
