"""Makes one checked plan for each model, from the settings of a sweep and the user's overrides."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from svhn_sweep import environment
from svhn_sweep.config.composition import composition_errors
from svhn_sweep.config.flatten import flatten
from svhn_sweep.config.overrides import Value, pin_interpolations
from svhn_sweep.config.schema import (
    Config,
    EvaluationConfig,
    compose_config,
    compose_node,
    to_config,
)
from svhn_sweep.errors import ConfigError
from svhn_sweep.sweep.plan.make_space import BaselineValue, conditions_of, make_space
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.plan.search_space import Params, SearchSpace
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.plan.space_checks import (
    INITIAL_WEIGHTS,
    check_bounds,
    check_condition,
    check_max_parameters,
    check_sizes,
)
from svhn_sweep.tracking.run_folders import MULTIRUN
from svhn_sweep.training.initial_weights import InitialWeights

FIXED_IN_A_STUDY = [
    "data",
    "evaluation",
    "tracking",
    "search_space",
    "seed",
    "training.precision",
    "training.threads",
    "training.validation_split",
    "training.restore_best_weights",
    INITIAL_WEIGHTS,
]
# What a sweep sets unless the user overrides it.
SWEEP_DEFAULTS = {"training.restore_best_weights": "true", "training.precision": "auto"}


@dataclass(frozen=True)
class Resolved:
    """A config with nothing left open.

    Attributes:
        config: The config.
        data_sha256: The SHA-256 of the data file.
        initial_weights: Those that the config names; None means random ones.
        data_copies: How many images are in two splits of the data; empty if none is.
    """

    config: Config
    data_sha256: str
    initial_weights: InitialWeights | None = None
    data_copies: str = ""


Resolve = Callable[[Config], Resolved]


def make_plans(
    settings: SweeperConfig, arguments: Sequence[str], resolve: Resolve, composed: DictConfig
) -> list[Plan]:
    """Makes a plan for each model; nothing is written.

    Args:
        settings: The settings of the sweep.
        arguments: The user's overrides, sweeps among them; they have precedence over `params`.
        resolve: Resolves what a config leaves open.
        composed: Hydra's config, whose cache fixes the time of `${now:...}` for all plans.

    Raises:
        ConfigError: The overrides are no valid sweep. Hydra and OmegaConf raise their own errors.
    """
    params = [
        f"{key}={'null' if value is None else value}" for key, value in settings.params.items()
    ]
    # glob(*) needs the config loader for the options of its group.
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    with composition_errors():
        parsed = parser.parse_overrides([*params, *arguments])
        overrides = {override.key_or_group: override for override in parsed}
        models = _models(overrides.pop("model", None))
    return [
        _make_plan(settings, model, overrides, resolve, composed, single_model=len(models) == 1)
        for model in models
    ]


def _models(override: Override | None) -> list[str]:
    if override is None:
        return [compose_config([]).model.name]
    if not override.is_sweep_override():
        return [str(override.value())]
    if not override.is_discrete_sweep():
        raise ConfigError(f"model must be one or more names but got {override.input_line}.")
    models = [str(model) for model in override.sweep_string_iterator()]
    if len(set(models)) < len(models):
        raise ConfigError(f"model must have each name once but got {override.input_line}.")
    return models


def _make_plan(
    settings: SweeperConfig,
    model: str,
    overrides: Mapping[str, Override],
    resolve: Resolve,
    composed: DictConfig,
    *,
    single_model: bool,
) -> Plan:
    fixed = [
        f"model={model}",
        *(str(item.input_line) for item in overrides.values() if not item.is_sweep_override()),
        *(f"{key}={value}" for key, value in SWEEP_DEFAULTS.items() if key not in overrides),
    ]
    baseline = compose_node(fixed)
    OmegaConf.copy_cache(from_config=composed, to_config=baseline)
    explored = {key for key, item in overrides.items() if item.is_sweep_override()}
    fixed = pin_interpolations(fixed, baseline, {*explored, *map(str, baseline.search_space)})
    OmegaConf.copy_cache(from_config=baseline, to_config=composed)
    resolved = resolve(to_config(baseline))
    if resolved.config.evaluation.test:
        raise ConfigError(
            "evaluation.test must not be true in a sweep, which selects on validation alone."
        )
    config = replace(resolved.config, evaluation=EvaluationConfig(test=False))
    space, baseline_params = _make_space(
        fixed, _parse_search_space(config), overrides, partial(_baseline_value, baseline, fixed)
    )
    if not space:
        raise ConfigError(f"search_space must name at least one key but that of {model} is empty.")
    check_bounds(to_config(baseline), fixed, space)
    fingerprint = _fingerprint(settings, replace(resolved, config=config), space)
    name = _study_name(settings.study_name, model, fingerprint, single_model=single_model)
    plan = Plan(
        name=name,
        folder=MULTIRUN / name,
        config=config,
        fixed=tuple(fixed),
        space=space,
        enqueued_trials=[baseline_params],
        n_trials=settings.n_trials,
        fingerprint=fingerprint,
        data_sha256=resolved.data_sha256,
        initial_weights=resolved.initial_weights,
        max_parameters=settings.max_parameters,
        data_copies=resolved.data_copies,
    )
    check_max_parameters(plan)
    check_sizes(plan)
    return plan


def _make_space(
    fixed: Sequence[str],
    from_conf: Mapping[str, Override],
    overrides: Mapping[str, Override],
    baseline_value: BaselineValue,
) -> tuple[SearchSpace, Params]:
    """The search space and the baseline's point in it."""
    sweeps = _sweeps(from_conf, overrides)
    # A sweep without a condition of its own keeps that of conf/.
    conditions = conditions_of(from_conf) | conditions_of(sweeps)
    for key, condition in conditions.items():
        if key in sweeps and condition.key not in sweeps:
            check_condition(key, condition, fixed)
    return make_space(sweeps, conditions, baseline_value)


def _sweeps(
    from_conf: Mapping[str, Override], overrides: Mapping[str, Override]
) -> dict[str, Override]:
    """The sweep of each explored key: conf/search_space/, changed by the user's overrides."""
    sweeps = {key: sweep for key, sweep in from_conf.items() if key not in overrides}
    sweeps |= {key: item for key, item in overrides.items() if item.is_sweep_override()}
    for key, sweep in sweeps.items():
        if key.startswith("search_space."):
            suggestion = str(sweep.input_line).removeprefix("search_space.")
            raise ConfigError(f"{key} must be typed without search_space. in front: {suggestion}")
        dotted = key.replace("/", ".")
        if any(dotted == fixed or dotted.startswith(f"{fixed}.") for fixed in FIXED_IN_A_STUDY):
            raise ConfigError(
                f"{key} must be the same for all trials of a study but got {sweep.input_line}."
            )
    return sweeps


def _parse_search_space(config: Config) -> dict[str, Override]:
    texts = [f"{key}={text}" for key, text in config.search_space.items()]
    with composition_errors():
        parsed = OverridesParser.create().parse_overrides(texts)
    for override in parsed:
        if not override.is_sweep_override():
            raise ConfigError(
                "search_space must hold several values for each key "
                f"but {override.key_or_group} has one."
            )
    return {override.key_or_group: override for override in parsed}


def _baseline_value(baseline: DictConfig, fixed: Sequence[str], key: str) -> Value:
    """The baseline's value of a config key, or its option of a config group."""
    value: Value | DictConfig | Enum = baseline
    for part in key.replace("/", ".").split("."):
        value = getattr(value, part)
    if isinstance(value, Enum):
        return str(value.value)
    if not isinstance(value, DictConfig):
        return value
    choices = compose_node(fixed, with_hydra=True).hydra.runtime.choices
    if key not in choices:
        raise ConfigError(
            f"{key} must be a single value or a group of conf/ to be explored but is a section."
        )
    return str(choices[key])


def _study_name(study_name: str | None, model: str, fingerprint: str, *, single_model: bool) -> str:
    if study_name is None:
        return f"{model}-{fingerprint[:8]}"
    return study_name if single_model else f"{study_name}-{model}"


def _fingerprint(settings: SweeperConfig, resolved: Resolved, space: SearchSpace) -> str:
    config = resolved.config
    baseline = {
        **dict(flatten(config.model, "model.")),
        **dict(flatten(config.training, "training.")),
    }
    facts: dict[str, object] = {
        # the weights count, not where they lie
        "baseline": {key: value for key, value in baseline.items() if key != INITIAL_WEIGHTS},
        "seed": config.seed,
        "space": {key: repr(distribution) for key, distribution in space.items()},
        "data": resolved.data_sha256,
        "objective": [settings.metric, settings.direction],
    }
    if resolved.initial_weights is not None:
        facts["initial_weights"] = resolved.initial_weights.sha256
    if space.conditions:
        facts["conditions"] = {key: str(on) for key, on in space.conditions.items()}
    if settings.max_parameters is not None:
        facts["max_parameters"] = settings.max_parameters
    if variables := environment.numeric_variables():
        facts["environment"] = variables
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
