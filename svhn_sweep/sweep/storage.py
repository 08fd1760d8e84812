"""Where Optuna keeps its studies, and the lock that lets one driver at a time work on one."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from sqlalchemy.exc import SQLAlchemyError

from svhn_sweep.errors import ConfigError
from svhn_sweep.tracking import store

BUSY_SECONDS = 60  # how long one process waits while another writes


def database(setting: str | None) -> Path:
    """The file named by `hydra.sweeper.storage`; by default optuna.db, beside mlflow.db.

    Raises:
        ConfigError: it is not a SQLite file.
    """
    if setting is None:
        return Path.cwd() / "optuna.db"
    path = setting.removeprefix("sqlite:///")
    if path == setting or not path:
        kind = setting.partition(":")[0]  # no more of it: there may be a password
        raise ConfigError(f"hydra.sweeper.storage must be sqlite:///FILE but begins with {kind!r}.")
    return Path.cwd() / path


def connect(path: Path) -> optuna.storages.RDBStorage:
    """The storage in that file; a new one appears whole, since a process may die while it makes the tables.

    Raises:
        ConfigError: it cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    waiting = {"connect_args": {"timeout": BUSY_SECONDS}}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        store.create_whole(path, lambda other: optuna.storages.RDBStorage(f"sqlite:///{other}").engine.dispose())
        return optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs=waiting)
    except (OSError, SQLAlchemyError, RuntimeError) as error:
        raise ConfigError(
            f"hydra.sweeper.storage must be a database of Optuna's but {path} is not: {store.reason(error)}."
        ) from error


def write_whole(path: Path, text: str) -> None:
    """Write a small file that is there whole or as it was before, after a power cut too."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock beside a study's folder: whatever is found RUNNING in the study is then known to be nobody's.

    Raises:
        ConfigError: another driver holds it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ConfigError(
                f"the study {folder.name} must have one driver at a time, but process {file.read().strip()} works on "
                "it; wait for it or stop it."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
