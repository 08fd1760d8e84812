"""Optuna's storage, and the locks by which a study has one driver at a time."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from svhn_sweep.errors import ConfigError, SweepInterruptedError
from svhn_sweep.files import absolute, create_atomically, lock_file
from svhn_sweep.tracking import tracking_uri

SQLITE_TIMEOUT = 60  # seconds to wait while another process writes to SQLite
DATABASE_ERRORS = (optuna.exceptions.StorageInternalError, SQLAlchemyError)
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
POSTGRES = "postgresql"
# Client and server notice a lost connection within seconds, not when TCP gives up; times are UTC,
# whatever the server's time zone.
POSTGRES_CONNECTION = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "options": "-c timezone=UTC -c tcp_keepalives_idle=5 -c "
    "tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
    "application_name": "svhn_sweep",
}


def storage_url(setting: str | None) -> URL:
    """Returns the URL of Optuna's database.

    Args:
        setting: `hydra.sweeper.storage`; None means optuna.db in the current folder, and SQLite
            files are relative to that folder.

    Raises:
        ConfigError: It is no database URL, or contains a password.
    """
    if setting is None:
        return URL.create("sqlite", database=str(Path.cwd() / "optuna.db"))
    try:
        parsed = make_url(setting)
    except (ArgumentError, ValueError):  # ValueError: the port is no number
        parsed = URL.create("")
    if not parsed.database:
        raise ConfigError(
            "hydra.sweeper.storage must be sqlite:///FILE or the address of another database, such "
            "as postgresql+psycopg://USER@HOST/DATABASE, "
            f"but begins with {tracking_uri.beginning(setting)!r}."
        )
    if parsed.password is not None or tracking_uri.SECRET_PARAM.search(setting):
        raise ConfigError(
            "hydra.sweeper.storage must not hold a password; give it in PGPASSWORD or PGPASSFILE."
        )
    if parsed.get_backend_name() == "sqlite":
        return parsed.set(database=str(absolute(parsed.database)))
    return parsed


def exists(database: URL) -> bool:
    """Returns whether a SQLite file is there; True for other databases, which are on a server."""
    is_sqlite = database.get_backend_name() == "sqlite"
    return not is_sqlite or Path(database.database or "").exists()


def connect(database: URL) -> RDBStorage:
    """Opens Optuna's storage in a database, and creates its tables if it has none.

    Raises:
        ConfigError: The database cannot be used.
        SweepInterruptedError: Another program locks the SQLite file for `SQLITE_TIMEOUT`.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        return _sqlite(database) if database.get_backend_name() == "sqlite" else _server(database)
    except (OSError, RuntimeError, ImportError, ArgumentError, *DATABASE_ERRORS) as error:
        if "database is locked" in str(error):
            raise SweepInterruptedError(
                f"{database.database} is locked by another program for more than "
                f"{SQLITE_TIMEOUT:g} s; end that program, and the same command continues."
            ) from error
        url = database.render_as_string(hide_password=True)
        raise ConfigError(
            f"hydra.sweeper.storage must be a database of Optuna's but {url} is not: "
            f"{tracking_uri.reason(error)}{_hint(database, error)}."
        ) from error


def _hint(database: URL, error: Exception) -> str:
    if database.get_backend_name() != POSTGRES:
        return ""
    if isinstance(error, ImportError):
        return "; install this package's extra `postgres`"
    return " (user in the address, password: PGPASSWORD or PGPASSFILE)"


def _sqlite(database: URL) -> RDBStorage:
    assert database.database
    path = Path(database.database)
    if os.path.lexists(path) and not path.is_file():  # SQLite waits for ever for a FIFO
        raise OSError("it is no file")
    path.parent.mkdir(parents=True, exist_ok=True)
    # A process that dies while it creates the tables must not leave a file with some of them.
    create_atomically(path, lambda other: RDBStorage(_sqlite_url(other)).engine.dispose())
    return RDBStorage(
        _sqlite_url(path), engine_kwargs={"connect_args": {"timeout": SQLITE_TIMEOUT}}
    )


def _sqlite_url(path: Path) -> str:
    """The address of a file; braces are doubled, because Optuna formats it as a template."""
    return "sqlite:///" + re.sub(r"[{}]", r"\g<0>\g<0>", str(path))


def _server(database: URL) -> RDBStorage:
    settings = (
        {"connect_args": POSTGRES_CONNECTION} if database.get_backend_name() == POSTGRES else {}
    )
    return RDBStorage(
        database.render_as_string(hide_password=False),
        engine_kwargs={**settings, "pool_pre_ping": True},
    )


@contextmanager
def interrupted_by_database() -> Iterator[None]:
    """Turns errors of the database into one message that the sweep is interrupted with.

    Raises:
        SweepInterruptedError: The database is unreachable or locked, or its disk is full.
    """
    try:
        yield
    except DATABASE_ERRORS as error:
        reason = tracking_uri.reason(error.__cause__ or error)
        raise SweepInterruptedError(
            f"the studies' database cannot be used any more: {reason}; every finished epoch is "
            "kept, and the same command continues."
        ) from error


@contextmanager
def interrupted_by_disk() -> Iterator[None]:
    """Turns errors of a disk into one message that the sweep is interrupted with.

    Raises:
        SweepInterruptedError: The disk is full, or fails.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise SweepInterruptedError(
            f"the disk cannot be written any more: {error}; every finished epoch is kept, and the "
            "same command continues."
        ) from error


@contextmanager
def single_driver(storage: RDBStorage, name: str, folder: Path) -> Iterator[None]:
    """Holds the locks of a study, so that no other driver trains the trials that it has running.

    The folder's lock excludes other drivers on this machine, and those that share its file system.
    PostgreSQL also has a lock for drivers on other machines, which ends with the connection.
    With other databases the study is bound to the folder (`compatibility.bind_folder`), so the
    folder's lock is enough.

    Args:
        storage: The storage of the study.
        name: The name of the study.
        folder: The folder of the study. The lock file is beside it, not in it, so that a folder
            that was moved away can be moved back.

    Raises:
        ConfigError: Another driver holds one of the locks.
    """
    with _locked_folder(folder):
        if storage.engine.dialect.name != POSTGRES:
            yield
            return
        with storage.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            lock = text("SELECT pg_try_advisory_lock(hashtext(:name))")
            if not connection.execute(lock, {"name": f"svhn_sweep {name}"}).scalar():
                raise ConfigError(
                    f"another process on this database already runs the study {name}: "
                    "wait for it or stop it."
                )
            try:
                yield
            finally:
                # Frees the lock even if the server is unreachable: it closes the connection.
                connection.invalidate()


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("a+", encoding="utf-8") as file:
        try:
            lock_file(file, timeout=0)
        except BlockingIOError as error:
            file.seek(0)
            raise ConfigError(
                f"another process ({file.read().strip()}) already runs the study {folder.name}: "
                "wait for it or stop it."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
