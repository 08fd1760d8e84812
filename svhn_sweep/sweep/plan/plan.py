"""What a sweep is about to do: from what the user typed to one checked plan for each model."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from svhn_sweep import provenance
from svhn_sweep.config.schema import CONFIG, Config, EvaluationConfig, flatten, from_composed
from svhn_sweep.errors import ConfigError
from svhn_sweep.sweep.plan.formatting import format_param, short_names
from svhn_sweep.sweep.plan.search_space import Value, distribution, exact, to_override
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.tracking.run_folders import MULTIRUN

FIXED_IN_A_STUDY = ["data", "evaluation", "tracking", "search_space", "seed"]
FIXED_IN_A_STUDY += [
    f"training.{key}"
    for key in ("precision", "threads", "validation_split", "restore_best_weights")
]

Params = Mapping[str, Value]
Resolve = Callable[[Config], tuple[Config, str]]  # what was left open, decided; the data's SHA-256


@dataclass(frozen=True)
class Plan:
    """One study to be.

    Attributes:
        name: of the study, and of its folder.
        folder: where its trials live.
        config: the baseline, with a resolved data source.
        fixed: overrides that all trials share.
        space: what is explored: config keys and their distributions.
        enqueued_trials: the trials that come first, the baseline at their head.
        n_trials: how many trials the study holds in the end; None: those that are queued.
        fingerprint: of all that makes its trials comparable.
        data_sha256: of the data.
    """

    name: str
    folder: Path
    config: Config
    fixed: tuple[str, ...]
    space: Mapping[str, BaseDistribution]
    enqueued_trials: Sequence[Params]
    n_trials: int | None
    fingerprint: str
    data_sha256: str

    role = "trial"

    @property
    def parent_run_dir(self) -> Path:
        """The folder of the run that MLflow shows the trials in."""
        return self.folder

    def overrides(self, params: Params, threads: int) -> list[str]:
        """The overrides that are this trial, with nothing left open."""
        config = replace(self.config, training=replace(self.config.training, threads=threads))
        return provenance.explicit([*self.fixed, *self.spelt(params)], config)

    def spelt(self, params: Params) -> list[str]:
        """What distinguishes this trial from the others, as overrides."""
        return [to_override(key, exact(self.space[key], value)) for key, value in params.items()]

    def epochs(self, params: Params) -> int:
        """How many there are in this trial."""
        spelt = self.spelt(params)
        if any(each.startswith(("training=", "training.epochs=")) for each in spelt):
            return composed([*self.fixed, *spelt]).training.epochs
        return self.config.training.epochs

    @property
    def most_epochs(self) -> int:
        """How many there are in a trial at most."""
        explored = [key for key in ("training", "training.epochs") if key in self.space]
        ends = [{key: end} for key in explored for end in _ends(self.space[key])]
        return max(map(self.epochs, ends), default=self.config.training.epochs)

    def describe(self, number: int, params: Params) -> str:
        """What is special about the trial, in a few words."""
        if number == 0:
            return "baseline"
        names = short_names(list(params))
        return ", ".join(
            f"{names[key]} {format_param(key, value)}" for key, value in params.items()
        )

    def is_baseline(self, number: int) -> bool:
        """Whether the trial is what the others are compared with."""
        return number == 0

    def title(self, number: int, params: Params) -> str:
        """What a person calls the trial."""
        return "baseline" if number == 0 else f"trial {number}"


def plans(settings: SweeperConfig, arguments: Sequence[str], resolve: Resolve) -> list[Plan]:
    """A plan for each model.

    Args:
        settings: of the sweep.
        arguments: the user's overrides, sweeps among them.
        resolve: decides what a config leaves open.

    Raises:
        ConfigError, and Hydra's and OmegaConf's errors: what was typed is no sweep; nothing has
        been started.
    """
    texts = [
        f"{key}={'null' if value is None else value}" for key, value in settings.params.items()
    ]
    parser = OverridesParser.create(
        GlobalHydra.instance().config_loader()
    )  # glob(*) asks it for the group's names
    parsed = parser.parse_overrides([*texts, *arguments])
    typed = {
        override.key_or_group: override for override in parsed
    }  # what is typed comes last and wins
    models = _models(typed.pop("model", None))
    return [_plan(settings, model, typed, resolve, alone=len(models) == 1) for model in models]


def composed(overrides: Sequence[str]) -> Config:
    """The checked config of these overrides."""
    return from_composed(compose(CONFIG, list(overrides)))


def _models(override: Override | None) -> list[str]:
    if override is None:
        return [composed([]).model.name]
    if not override.is_sweep_override():
        return [str(override.value())]
    if not override.is_discrete_sweep():
        raise ConfigError(f"model must be one or more names but got {override.input_line}.")
    models = [str(model) for model in override.sweep_string_iterator()]
    if len(set(models)) < len(models):
        raise ConfigError(f"model must have each name once but got {override.input_line}.")
    return models


def _plan(
    settings: SweeperConfig,
    model: str,
    typed: Mapping[str, Override],
    resolve: Resolve,
    *,
    alone: bool,
) -> Plan:
    fixed = [
        f"model={model}",
        *(str(each.input_line) for each in typed.values() if not each.is_sweep_override()),
    ]
    if "training.restore_best_weights" not in typed:
        fixed.append("training.restore_best_weights=true")
    if "training.precision" not in typed:
        fixed.append("training.precision=auto")
    baseline = compose(CONFIG, fixed)
    config, sha256 = resolve(from_composed(baseline))
    if config.evaluation.test:
        raise ConfigError(
            "evaluation.test must not be true in a sweep, which selects on validation alone."
        )
    config = replace(config, evaluation=EvaluationConfig(test=False))
    overrides = {key: each for key, each in _from_conf(config).items() if key not in typed}
    overrides |= {key: each for key, each in typed.items() if each.is_sweep_override()}
    for key, each in overrides.items():
        if key.startswith("search_space."):
            bare = str(each.input_line).removeprefix("search_space.")
            raise ConfigError(f"{key} must be typed without search_space. in front: {bare}")
        if any(key == fixed or key.startswith(f"{fixed}.") for fixed in FIXED_IN_A_STUDY):
            raise ConfigError(
                f"{key} must be the same for all trials of a study but got {each.input_line}."
            )
    if not overrides:
        raise ConfigError(f"search_space must name at least one key but that of {model} is empty.")
    values = {key: _value(baseline, key, fixed) for key in overrides}
    space = {key: distribution(each, values[key]) for key, each in overrides.items()}
    _check_ends(fixed, space)
    fingerprint = _fingerprint(settings, config, space, sha256)
    name = (
        settings.study_name
        if settings.study_name and alone
        else f"{settings.study_name or ''}-{model}".lstrip("-")
    )
    if settings.study_name is None:
        name = f"{model}-{fingerprint[:8]}"
    return Plan(
        name,
        MULTIRUN / name,
        config,
        tuple(fixed),
        space,
        [values],
        settings.n_trials,
        fingerprint,
        sha256,
    )


def _from_conf(config: Config) -> dict[str, Override]:
    """conf/search_space, parsed."""
    texts = [f"{key}={text}" for key, text in config.search_space.items()]
    parsed = OverridesParser.create().parse_overrides(texts)
    fixed = [each.key_or_group for each in parsed if not each.is_sweep_override()]
    if fixed:
        raise ConfigError(
            f"search_space must hold several values for each key but {fixed[0]} has one."
        )
    return {each.key_or_group: each for each in parsed}


def _value(baseline: DictConfig, key: str, fixed: Sequence[str]) -> Value:
    """The baseline's value of a key; for a group of conf/ the name of its choice."""
    value: Value | DictConfig = baseline
    for part in key.replace("/", ".").split("."):
        value = getattr(value, part)
    if isinstance(value, DictConfig):
        choices = compose(CONFIG, list(fixed), return_hydra_config=True).hydra.runtime.choices
        if key not in choices:
            raise ConfigError(
                f"{key} must be a single value or a group of conf/ to be explored but is a section."
            )
        return str(choices[key])
    return value


def _check_ends(fixed: Sequence[str], space: Mapping[str, BaseDistribution]) -> None:
    """Hold the ends of each range, and every choice, to the rules of the schema; the n-th of all
    keys at a time.
    """
    ends = {key: list(_ends(each)) for key, each in space.items()}
    for index in range(max(len(values) for values in ends.values())):
        nth = {key: values[min(index, len(values) - 1)] for key, values in ends.items()}
        composed([*fixed, *(to_override(key, value) for key, value in nth.items())])


def _ends(each: BaseDistribution) -> Iterable[Value]:
    if isinstance(each, CategoricalDistribution):
        return each.choices
    assert isinstance(each, FloatDistribution | IntDistribution)
    return each.low, each.high


def _fingerprint(
    settings: SweeperConfig, config: Config, space: Mapping[str, BaseDistribution], sha256: str
) -> str:
    sections = {"model": config.model, "training": config.training}
    facts = {
        "baseline": {
            key: value
            for name, part in sections.items()
            for key, value in flatten(part, f"{name}.")
        },
        "seed": config.seed,
        "space": {key: repr(each) for key, each in space.items()},
        "data": sha256,
        "objective": [settings.metric, settings.direction],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
