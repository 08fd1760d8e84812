"""The values that a trial reported, epoch by epoch."""

import math

import optuna
from optuna.trial import FrozenTrial


def sign_of(study: optuna.Study) -> int:
    """What to multiply values by so that the lowest is the best."""
    return -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1


def finite_values(trial: FrozenTrial) -> dict[int, float]:
    """The finite intermediate values by epoch, in order."""
    return {
        epoch: value
        for epoch, value in sorted(trial.intermediate_values.items())
        if math.isfinite(value)
    }
