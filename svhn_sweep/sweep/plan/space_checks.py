"""Checks a search space against the schema, the limit of size and the initial weights."""

from collections.abc import Sequence

from svhn_sweep.config.error_messages import USER_ERRORS, explain
from svhn_sweep.config.flatten import check_effect, flatten
from svhn_sweep.config.overrides import to_override, unstable_keys
from svhn_sweep.config.schema import Config, compose_node, to_config
from svhn_sweep.errors import ConfigError
from svhn_sweep.sweep.plan.distributions import bounds
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.plan.search_space import Condition, SearchSpace

INITIAL_WEIGHTS = "training.initial_weights"


def check_condition(key: str, condition: Condition, fixed: Sequence[str]) -> None:
    """Checks that a condition on a key that is not explored can hold: one with a typo never would.

    Args:
        key: The key that has the condition.
        condition: The condition.
        fixed: Overrides of the study's config.

    Raises:
        ConfigError: The config has no such key, or the key no such value.
    """
    for value in condition.values:
        try:
            compose_node([*fixed, to_override(condition.key, value)])
        except USER_ERRORS as error:
            raise ConfigError(f"{key} is explored {condition}, but {explain(error)}") from error


def check_bounds(baseline: Config, fixed: Sequence[str], space: SearchSpace) -> None:
    """Checks the bounds of each range, and every choice, against the schema, and their effect.

    To compose few configs, each of them has the n-th value of all keys at once.

    Raises:
        ConfigError: A bound breaks its rule, would be resolved anew in each trial, changes the
            initial weights, or a key changes nothing. Hydra and OmegaConf raise their own errors.
    """
    values = {key: list(bounds(distribution)) for key, distribution in space.items()}
    trainings = []
    for index in range(max(map(len, values.values()), default=0)):
        nth = {key: options[min(index, len(options) - 1)] for key, options in values.items()}
        composed = compose_node([*fixed, *(to_override(key, value) for key, value in nth.items())])
        for key in unstable_keys(composed):
            files = "" if key in space else " in the files of a group that is explored"
            raise ConfigError(
                f"{key} must have a value of its own{files}, but each trial would resolve an "
                "interpolation anew."
            )
        config = to_config(composed)
        trainings.append(config.training)
        if config.training.initial_weights != baseline.training.initial_weights:
            raise ConfigError(f"{INITIAL_WEIGHTS} must be the same for all trials of a study.")
    check_effect(space, trainings)


def check_max_parameters(plan: Plan) -> None:
    """Checks that the smallest model of a search space is within the plan's limit.

    Raises:
        ConfigError: It is not.
    """
    lowest = {key: bounds(distribution)[0] for key, distribution in plan.space.items()}
    smallest = plan.with_smallest_model(lowest)
    if not plan.fits(smallest):
        raise ConfigError(
            f"hydra.sweeper.max_parameters must be at least {plan.parameters(smallest)}, the "
            f"smallest model of the search space, but got {plan.max_parameters}."
        )


def check_sizes(plan: Plan) -> None:
    """Checks that no explored key changes the shapes of initial weights.

    Raises:
        ConfigError: One does.
    """
    if plan.initial_weights is None:
        return
    size = plan.parameters({})
    values = dict(flatten(plan.config.model, "model."))
    changing = [
        key
        for key, distribution in plan.space.items()
        if any(plan.parameters({key: value}) != size for value in bounds(distribution))
    ]
    if changing:
        fixed = " ".join(to_override(key, values[key]) for key in changing)
        raise ConfigError(
            f"{', '.join(changing)} must not be explored with {INITIAL_WEIGHTS}, whose layers have "
            f"one size; fix {'them' if len(changing) > 1 else 'it'}: {fixed}"
        )
