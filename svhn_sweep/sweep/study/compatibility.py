"""What a study is known by: what it was created with, and its folder."""

import uuid
from pathlib import Path

import optuna

from svhn_sweep.errors import ConfigError
from svhn_sweep.files import write_whole
from svhn_sweep.sweep.plan.plan import Plan


def get_or_set_attr(study: optuna.Study, key: str, value: str) -> str:
    """What the study was created with: this value, if it is new."""
    if key not in study.user_attrs:
        study.set_user_attr(key, value)
    return str(study.user_attrs[key])


def check_same(study: optuna.Study, plan: Plan) -> None:
    """Refuse what would make the study's trials incomparable.

    Raises:
        ConfigError: a study of this name explores something else, or computes in another precision.
    """
    precision = plan.config.training.precision.value
    if (begun := get_or_set_attr(study, "precision", precision)) != precision:
        raise ConfigError(
            f"training.precision must be {begun}, in which {plan.name} "
            f"was begun, but is {precision} here: add "
            f"training.precision={begun}, or take another hydra.sweeper.study_name."
        )
    if get_or_set_attr(study, "fingerprint", plan.fingerprint) != plan.fingerprint:
        raise ConfigError(
            "hydra.sweeper.study_name must be new for a changed sweep, "
            f"but {plan.name} explored another search "
            "space, other digits, another baseline or another metric."
        )


def bind_folder(study: optuna.Study, folder: Path) -> None:
    """Folder and database know each other by an id: trials of the same number are the same trial.

    Args:
        study: new, or an old one.
        folder: of its trials; made for a new study.

    Raises:
        ConfigError: the folder is another study's, or this study's folder is somewhere else.
    """
    attribute = study.user_attrs.get("id")
    mark = folder / "study.id"
    known = mark.read_text() if mark.exists() else None
    if attribute is None and not any(folder.glob("trial-*")):
        folder.mkdir(parents=True, exist_ok=True)
        known = attribute = uuid.uuid4().hex
        write_whole(mark, known)
        study.set_user_attr("id", attribute)
    if known != attribute:
        missing = (
            "the folder is not there" if known is None else "the database does not know this folder"
        )
        raise ConfigError(
            f"{folder} must belong to the study of that name in the "
            f"database, but {missing}; put back what was "
            "moved, or take another hydra.sweeper.study_name."
        )
