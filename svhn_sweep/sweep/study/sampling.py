"""The sampler and the pruner of a study, and the values that a trial draws."""

import warnings
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from svhn_sweep.config.overrides import Value
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.plan.search_space import Params, SearchSpace
from svhn_sweep.sweep.plan.settings import SweeperConfig

MAX_DEFAULT_MIN_RESOURCE = 4  # epochs; docs/architecture.md has the evidence for 20 and 30 epochs
# What they gain shows late: after 8 of 60 epochs, model2 with augmentation is behind nearly all
# configs without it, after 20 it is ahead.
LATE_KEYS = ("training.augmentation.", "training.schedule")


def suggest_params(trial: Trial, space: SearchSpace) -> Params:
    """Returns the values of the keys that a trial explores; draws those that it lacks."""
    params: dict[str, Value] = {}
    for key, distribution in space.items():
        if space.applies(key, params):
            params[key] = _suggest(trial, key, distribution)
    return params


def _suggest(trial: Trial, key: str, distribution: BaseDistribution) -> Value:
    if isinstance(distribution, CategoricalDistribution):
        choice: Value = trial.suggest_categorical(key, distribution.choices)
        return choice
    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(
            key, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    assert isinstance(distribution, IntDistribution)
    return trial.suggest_int(
        key, distribution.low, distribution.high, step=distribution.step, log=distribution.log
    )


def make_sampler(
    name: str, seed: int, number: int, *, conditional: bool = False
) -> optuna.samplers.BaseSampler:
    """Creates the sampler of one trial: its draws depend on the seed and the trials before it.

    So a study that is continued draws what one that was never stopped would draw. QMC counts its
    points in the storage and needs the same seed for all trials, but not for independent sampling:
    it draws so until a trial is running, complete or pruned from which it learns the search space.

    Args:
        name: `tpe`, `random` or `qmc`.
        seed: The seed of the study.
        number: The number of the trial.
        conditional: Whether some keys are explored by some of the trials only. TPE then draws the
            keys together that were always explored together.
    """
    trial_seed = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    random = optuna.samplers.RandomSampler(seed=trial_seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "tpe":
                return optuna.samplers.TPESampler(seed=trial_seed, group=conditional)
            case "random":
                return random
            case "qmc":
                return optuna.samplers.QMCSampler(seed=seed, independent_sampler=random)
            case _:
                raise AssertionError(f"no sampler {name}")


def sampler_maker(name: str, plan: Plan) -> Callable[[int], optuna.samplers.BaseSampler]:
    """Returns a function that makes the sampler of each trial of a study by its number.

    Args:
        name: The kind of sampler.
        plan: The plan of the study.
    """
    conditional = bool(plan.space.conditions)
    return partial(make_sampler, name, plan.config.seed, conditional=conditional)


def make_pruner(
    settings: SweeperConfig, epochs: int, explored: Iterable[str]
) -> optuna.pruners.BasePruner:
    """Creates the pruner of a study.

    Args:
        settings: Name the pruner.
        epochs: The epochs of a trial.
        explored: The keys that the study explores.
    """
    pruner = settings.pruner
    min_resource = pruner.min_resource
    if min_resource is None:
        min_resource = epochs // 3
        if not any(key.startswith(LATE_KEYS) for key in explored):
            min_resource = min(MAX_DEFAULT_MIN_RESOURCE, min_resource)
    first_rung = max(1, min_resource)
    match pruner.name:
        case "median":
            return optuna.pruners.MedianPruner(pruner.startup_trials, min_resource)
        case "successive_halving":
            return optuna.pruners.SuccessiveHalvingPruner(
                min_resource=first_rung, reduction_factor=2
            )
        case "hyperband":
            return optuna.pruners.HyperbandPruner(
                min_resource=first_rung, max_resource=max(first_rung, epochs)
            )
        case "none":
            return optuna.pruners.NopPruner()
        case _:
            raise AssertionError(f"no pruner {pruner.name}")
