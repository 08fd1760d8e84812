"""Refuses a study whose trials in the database are not as a sweep writes them."""

from collections.abc import Iterator
from itertools import count

from optuna.distributions import check_distribution_compatibility
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from svhn_sweep.sweep.plan.distributions import contains
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.study.compatibility import edited_error
from svhn_sweep.trial_status import TrialStatus

# What Optuna raises when it reads rows that it has not written.
READ_ERRORS = (AssertionError, LookupError, TypeError, ValueError)


def check_trials(storage: BaseStorage, plan: Plan) -> None:
    """Checks that all trials of a study can be read and have what a sweep stores with them.

    Args:
        storage: Holds the study.
        plan: The plan of the study.

    Raises:
        ConfigError: Somebody edited a trial.
    """
    study_id = storage.get_study_id_from_name(plan.name)
    for number, trial in enumerate(_read_trials(storage, study_id)):
        try:
            fault = repr(trial) if isinstance(trial, Exception) else _fault(trial, number, plan)
        except READ_ERRORS as error:
            fault = repr(error)
        if fault:
            raise edited_error(f"trial {number} of {plan.name}", f"({' '.join(fault.split())})")


def _read_trials(storage: BaseStorage, study_id: int) -> Iterator[FrozenTrial | Exception]:
    """Yields all trials by number, up to the error in place of the first that cannot be read."""
    try:
        yield from sorted(storage.get_all_trials(study_id), key=lambda trial: trial.number)
    except READ_ERRORS:  # does not say in which trial
        for number in count():
            try:
                trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, number)
                yield storage.get_trial(trial_id)
            except READ_ERRORS as error:
                yield error
                return


def _fault(trial: FrozenTrial, number: int, plan: Plan) -> str:
    """Returns what is wrong with a trial, or nothing; may raise `READ_ERRORS` instead."""
    if trial.number != number:
        return f"its number is {trial.number}"
    for key, value in trial.params.items():
        if key not in plan.space:
            return f"{key} is not explored"
        check_distribution_compatibility(trial.distributions[key], plan.space[key])
        if not contains(plan.space[key], value):
            return f"{key} is {value}"
    if not trial.state.is_finished():
        return ""
    missing = plan.space.missing(trial.params)
    missing += [key for key in ("state", "reason", "seconds") if key not in trial.user_attrs]
    if missing:
        return f"it has no {missing[0]}"
    if TrialStatus(trial.user_attrs["state"]).optuna_state != trial.state.name:
        return f"its state is {trial.state.name} and {trial.user_attrs['state']}"
    if trial.state == TrialState.COMPLETE and trial.value is None:
        return "it has no value"
    if not isinstance(trial.user_attrs["seconds"], int | float):
        return f"its seconds are {trial.user_attrs['seconds']}"
    return ""
