"""How the search draws its trials, and ends the hopeless ones."""

import warnings

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from svhn_sweep.sweep.plan.search_space import Value
from svhn_sweep.sweep.plan.settings import SweeperConfig


def suggest(trial: Trial, key: str, each: optuna.distributions.BaseDistribution) -> Value:
    """The trial's value, drawn now if a crash came between the trial and its values."""
    if isinstance(each, CategoricalDistribution):
        choice: Value = trial.suggest_categorical(key, each.choices)
        return choice
    if isinstance(each, FloatDistribution):
        return trial.suggest_float(key, each.low, each.high, step=each.step, log=each.log)
    assert isinstance(each, IntDistribution)
    return trial.suggest_int(key, each.low, each.high, step=each.step, log=each.log)


def sampler(name: str, seed: int, trials: int) -> optuna.samplers.BaseSampler:
    """A sampler that does not repeat itself in a study that goes on with so many trials.

    TPE and random search begin their draws anew with each process, so each start gets its own seed.
    QMC counts its points in the storage and needs the same seed always, but not for what it draws
    by chance: all, until a trial is complete, pruned or running from which it learns the space.
    """
    own = int(np.random.SeedSequence((seed, trials)).generate_state(1)[0])
    if name == "qmc":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.QMCSampler(
                seed=seed, independent_sampler=optuna.samplers.RandomSampler(seed=own)
            )
    return (
        optuna.samplers.TPESampler(seed=own)
        if name == "tpe"
        else optuna.samplers.RandomSampler(seed=own)
    )


def pruner(settings: SweeperConfig, epochs: int) -> optuna.pruners.BasePruner:
    """The pruner for trials of so many epochs."""
    chosen = settings.pruner
    first = max(1, chosen.min_resource)
    match chosen.name:
        case "median":
            return optuna.pruners.MedianPruner(chosen.startup_trials, chosen.min_resource)
        case "successive_halving":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=2)
        case "hyperband":
            return optuna.pruners.HyperbandPruner(
                min_resource=first, max_resource=max(first, epochs)
            )
        case _:
            return optuna.pruners.NopPruner()
