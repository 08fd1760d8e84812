"""Makes a search space from sweep overrides, whose tags may hold conditions."""

from collections.abc import Callable, Mapping

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString, Sweep
from hydra.errors import HydraException
from optuna.distributions import CategoricalDistribution

from svhn_sweep.config.overrides import Value
from svhn_sweep.errors import ConfigError
from svhn_sweep.sweep.plan.distributions import contains, format_distribution, to_distribution
from svhn_sweep.sweep.plan.search_space import Condition, Params, SearchSpace

IF = "if "

BaselineValue = Callable[[str], Value]


def make_space(
    sweeps: Mapping[str, Override],
    conditions: Mapping[str, Condition],
    baseline_value: BaselineValue,
) -> tuple[SearchSpace, Params]:
    """Makes a search space and the point of the baseline in it.

    A key whose condition names a key that is not explored is explored always or never, as that
    key's value has it.

    Args:
        sweeps: The sweep of each key.
        conditions: The condition of each key that has one.
        baseline_value: Returns the baseline's value of a key, which must be in the space where the
            baseline has a value that is explored.

    Raises:
        ConfigError: A sweep or a condition is not valid.
    """
    explored = list(sweeps)
    while never := [
        key
        for key in explored
        if (condition := conditions.get(key))
        and condition.key not in explored
        and baseline_value(condition.key) not in condition.values
    ]:
        explored = [key for key in explored if key not in never]
    among = {
        key: condition
        for key in explored
        if (condition := conditions.get(key)) and condition.key in explored
    }
    values = {key: baseline_value(key) for key in explored}
    any_distribution = CategoricalDistribution((0,))  # only the order and the conditions count here
    in_baseline = SearchSpace(dict.fromkeys(explored, any_distribution), among).applied(values)
    distributions = {
        key: to_distribution(sweeps[key], values[key], has_baseline=key in in_baseline)
        for key in explored
    }
    space = SearchSpace(distributions, among)
    _check_conditions(space)
    return space, {key: in_baseline[key] for key in space if key in in_baseline}


def conditions_of(sweeps: Mapping[str, Override]) -> dict[str, Condition]:
    """Returns the condition among the tags of each sweep that has one: `tag('if KEY=VALUE', ...)`.

    Raises:
        ConfigError: A sweep has several, or one that is no override of a key.
    """
    conditions = {key: _condition_of(sweep) for key, sweep in sweeps.items()}
    return {key: condition for key, condition in conditions.items() if condition is not None}


def _condition_of(override: Override) -> Condition | None:
    sweep = override.value()
    tags = sweep.tags if isinstance(sweep, Sweep) else set()
    conditions = [tag for tag in tags if tag.startswith(IF)]
    if not conditions:
        return None
    try:
        (text,) = conditions
        condition = OverridesParser.create().parse_override(text.removeprefix(IF))
        value = condition.value()
    except (ValueError, HydraException) as error:
        raise _error(override) from error
    items = value.list if isinstance(value, ChoiceSweep) else [value]
    texts = [item.text if isinstance(item, QuotedString) else item for item in items]
    values = [item for item in texts if item is None or isinstance(item, str | int | float)]
    if len(values) < len(texts):
        raise _error(override)
    return Condition(condition.key_or_group, tuple(values))


def _check_conditions(space: SearchSpace) -> None:
    """Checks that the condition of each key can hold."""
    for key, condition in space.conditions.items():
        distribution = space[condition.key]
        for value in condition.values:
            if not contains(distribution, value):
                raise ConfigError(
                    f"{key}: its condition, {condition}, must be a value of {condition.key} in the "
                    f"search space, but that is {format_distribution(distribution)}."
                )


def _error(override: Override) -> ConfigError:
    return ConfigError(
        f"{override.key_or_group} must have one condition, as in "
        f"tag('if training.schedule=plateau', range(2, 7)), but got {override.get_value_string()}."
    )
