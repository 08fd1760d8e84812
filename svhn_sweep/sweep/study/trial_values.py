"""The values of Optuna's trials: of each epoch and of the trial as a whole; their configs."""

import math
from collections.abc import Iterable

import optuna
from optuna.trial import FrozenTrial, TrialState

from svhn_sweep.sweep.plan.search_space import Point, SearchSpace


def direction_sign(study: optuna.Study) -> int:
    """Returns the factor that makes lower values better: -1 in a study that maximizes, else 1."""
    return -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1


def finite_values(trial: FrozenTrial) -> dict[int, float]:
    """Returns the finite intermediate values by epoch, in ascending order of the epochs."""
    return {
        epoch: value
        for epoch, value in sorted(trial.intermediate_values.items())
        if math.isfinite(value)
    }


def objective_value(trial: FrozenTrial) -> float:
    """Returns the value of a complete trial."""
    assert trial.value is not None, f"trial {trial.number} is not complete"
    return trial.value


def ranked_trials(trials: Iterable[FrozenTrial], *, maximize: bool) -> list[FrozenTrial]:
    """Returns the complete trials, best first; those of equal value by number."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    sign = -1 if maximize else 1
    return sorted(complete, key=lambda trial: (sign * objective_value(trial), trial.number))


def started_points(space: SearchSpace, trials: Iterable[FrozenTrial]) -> set[Point]:
    """Returns the configs of trials, each once.

    A trial whose driver died before its config was drawn has its number in place of a config.
    """
    return {
        (trial.number,) if space.missing(trial.params) else space.to_point(trial.params)
        for trial in trials
    }
