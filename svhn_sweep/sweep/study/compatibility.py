"""Refuses to continue a study with another sweep, or in another folder."""

import uuid
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.storages import BaseStorage

from svhn_sweep.errors import ConfigError
from svhn_sweep.files import write_atomically
from svhn_sweep.sweep.plan.plan import Plan

STUDY_ID = "study.id"  # the file in a study's folder with the study's attribute `id`


def get_or_set_attr(study: optuna.Study, key: str, value: str) -> str:
    """Returns a user attribute of the study, which becomes `value` if it is not set."""
    if key not in study.user_attrs:
        study.set_user_attr(key, value)
    return str(study.user_attrs[key])


def get_or_set_threads(study: optuna.Study, threads: int) -> int:
    """Returns the CPU threads of each trial of the study, `threads` in a new one.

    Raises:
        ConfigError: Somebody edited the number.
    """
    value = get_or_set_attr(study, "threads", str(threads))
    if not value.isdecimal():
        raise edited_error(f"threads of {study.study_name}", f"to {value!r}")
    return int(value)


def stored_threads(storage: BaseStorage, plans: Sequence[Plan]) -> dict[str, int]:
    """Returns the CPU threads of each trial of those studies that exist, by their names.

    Raises:
        ConfigError: Somebody edited a number.
    """
    names = {plan.name for plan in plans} & set(optuna.get_all_study_names(storage))
    studies = [optuna.load_study(study_name=name, storage=storage) for name in sorted(names)]
    return {
        study.study_name: get_or_set_threads(study, 0)
        for study in studies
        if "threads" in study.user_attrs
    }


def edited_error(what: str, how: str) -> ConfigError:
    """Returns the error for a part of a study that somebody edited in the database.

    Args:
        what: The part, for example "trial 3 of model2-1a2b3c4d".
        how: What is wrong with it, the end of "but was edited ...".
    """
    return ConfigError(
        f"{what} must be in the database as the sweep wrote it, but was edited {how}; put back the "
        "database as it was, or take another hydra.sweeper.study_name."
    )


def check_compatible(study: optuna.Study, plan: Plan) -> None:
    """Checks that a plan's trials are comparable with those of the study.

    Raises:
        ConfigError: The study has another precision, or another fingerprint.
    """
    precision = plan.config.training.precision.value
    study_precision = get_or_set_attr(study, "precision", precision)
    if study_precision != precision:
        raise ConfigError(
            f"training.precision must be {study_precision}, in which {plan.name} "
            f"was begun, but is {precision} here: add "
            f"training.precision={study_precision}, or take another hydra.sweeper.study_name."
        )
    if get_or_set_attr(study, "fingerprint", plan.fingerprint) != plan.fingerprint:
        raise ConfigError(
            "hydra.sweeper.study_name must be new for a changed sweep, "
            f"but {plan.name} explored another search space, other digits, another baseline or "
            "another metric, or TensorFlow's variables in the environment were others."
        )


def bind_folder(study: optuna.Study, folder: Path) -> None:
    """Binds a new study to its folder; checks that an old study is bound to this one.

    Both hold the same random id, so trials of the same number are the same trial.

    Args:
        study: The study in the database.
        folder: The folder of its trials; it is created for a new study.

    Raises:
        ConfigError: The folder belongs to another study, or the study to another folder.
    """
    file = folder / STUDY_ID
    folder_id = file.read_text() if file.exists() else None
    study_id = study.user_attrs.get("id")
    if study_id is None and not any(folder.glob("trial-*")):
        folder.mkdir(parents=True, exist_ok=True)
        folder_id = study_id = uuid.uuid4().hex
        write_atomically(file, folder_id)
        study.set_user_attr("id", study_id)
    if folder_id != study_id:
        missing = (
            "the folder is not there" if folder_id is None else "the study there is another one"
        )
        raise ConfigError(
            f"{folder} must belong to the study of that name in the database, but {missing}; put "
            "back what was moved, or take another hydra.sweeper.study_name."
        )
