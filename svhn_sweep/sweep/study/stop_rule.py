"""When a study starts no more trials: its budget is used up, or the target value is reached."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.study.trial_values import best_trial, objective_value


def startable_trials(plan: Plan, settings: SweeperConfig, trials: Sequence[FrozenTrial]) -> int:
    """Counts the trials that a study may still start.

    Args:
        plan: Its `n_trials` is the budget; without one, all enqueued trials are started.
        settings: Its `target_value` ends a search early; a trial without a value does not.
        trials: All trials of the study, including those that are only enqueued.
    """
    waiting = sum(trial.state == TrialState.WAITING for trial in trials)
    if plan.n_trials is None:
        return waiting
    if _target_reached(settings, trials):
        return 0
    return max(0, plan.n_trials - (len(trials) - waiting))


def _target_reached(settings: SweeperConfig, trials: Sequence[FrozenTrial]) -> bool:
    best = best_trial(trials, maximize=settings.maximize)
    if settings.target_value is None or best is None:
        return False
    value = objective_value(best)
    return value >= settings.target_value if settings.maximize else value <= settings.target_value
