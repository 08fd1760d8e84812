"""When a study starts no more trials: see `stop_reason`."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.study.trial_values import objective_value, ranked_trials, started_points


def unstarted_trials(plan: Plan, trials: Sequence[FrozenTrial]) -> int:
    """Counts the trials that a study may still start if the target value is not reached.

    Args:
        plan: Its `n_trials` is the budget.
        trials: All trials of the study, including those that are only enqueued.
    """
    started = [trial for trial in trials if trial.state != TrialState.WAITING]
    waiting = len(trials) - len(started)
    assert plan.n_trials is not None
    left = max(0, plan.n_trials - len(started))
    if plan.n_configs is None or plan.n_configs >= plan.n_trials:  # the budget ends first
        return left
    untried = plan.n_configs - len(started_points(plan.space, started))
    return min(left, max(untried, waiting))


def stop_reason(plan: Plan, settings: SweeperConfig, trials: Sequence[FrozenTrial]) -> str:
    """Returns why a search starts fewer trials than its budget; empty if it does not.

    Args:
        plan: Its search space is exhausted when a trial of each config was started.
        settings: Its `target_value` ends a search early; a trial without a value does not.
        trials: All trials of the study, including those that are only enqueued.
    """
    finished = sum(trial.state.is_finished() for trial in trials)
    if plan.n_trials is None or finished >= plan.n_trials:
        return ""
    after = f"after {finished} of {plan.n_trials} trials"
    if target_reached(settings, trials):
        return f"hydra.sweeper.target_value={settings.target_value:g} is reached {after}"
    running = any(trial.state == TrialState.RUNNING for trial in trials)
    if running or unstarted_trials(plan, trials) > 0:
        return ""
    return f"all {plan.n_configs} configs of the search space are tried {after}"


def target_reached(settings: SweeperConfig, trials: Sequence[FrozenTrial]) -> bool:
    """Returns whether the best complete trial has the target value."""
    complete = ranked_trials(trials, maximize=settings.maximize)
    if settings.target_value is None or not complete:
        return False
    value = objective_value(complete[0])
    return value >= settings.target_value if settings.maximize else value <= settings.target_value
