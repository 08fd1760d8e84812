"""Where Optuna keeps its studies, and the locks by which a study has one driver at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from svhn_sweep.errors import ConfigError, SweepInterruptedError
from svhn_sweep.tracking import tracking_uri

BUSY_SECONDS = 60  # how long one process waits while another writes to SQLite
DATABASE_ERRORS = (optuna.exceptions.StorageInternalError, SQLAlchemyError)
POSTGRES = "postgresql"
# A driver that is cut off notices it within seconds, not when TCP gives up; times are UTC on every
# server.
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


def url(setting: str | None) -> URL:
    """The database named by `hydra.sweeper.storage`; by default optuna.db, beside mlflow.db.

    Raises:
        ConfigError: it is no address of a database, or holds a password.
    """
    if setting is None:
        return URL.create("sqlite", database=str(Path.cwd() / "optuna.db"))
    try:
        parsed = make_url(setting)
    except ArgumentError:
        parsed = URL.create("")
    if not parsed.database:
        kind = setting.partition(":")[0]  # no more of it: there may be a password
        raise ConfigError(
            "hydra.sweeper.storage must be sqlite:///FILE or the "
            "address of another database, such as "
            f"postgresql+psycopg://USER@HOST/DATABASE, but begins with {kind!r}."
        )
    if parsed.password is not None or any("password" in key for key in parsed.query):
        raise ConfigError(
            "hydra.sweeper.storage must not hold a password; give it in PGPASSWORD or PGPASSFILE."
        )
    if parsed.get_backend_name() == "sqlite":
        return parsed.set(database=str(Path.cwd() / parsed.database))
    return parsed


def connect(database: URL) -> RDBStorage:
    """The storage in that database; a new SQLite file appears whole, since a process may die while
    it makes the tables.

    Raises:
        ConfigError: it cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        return _sqlite(database) if database.get_backend_name() == "sqlite" else _server(database)
    except (OSError, RuntimeError, ImportError, ArgumentError, *DATABASE_ERRORS) as error:
        shown = database.render_as_string(hide_password=True)
        is_postgres = database.get_backend_name() == POSTGRES
        hint = " (user in the address, password: PGPASSWORD or PGPASSFILE)" if is_postgres else ""
        hint = (
            "; install this package's extra `postgres`"
            if isinstance(error, ImportError) and is_postgres
            else hint
        )
        raise ConfigError(
            f"hydra.sweeper.storage must be a database of Optuna's but {shown} is not: "
            f"{tracking_uri.reason(error)}{hint}."
        ) from error


def _sqlite(database: URL) -> RDBStorage:
    assert database.database
    path = Path(database.database)
    path.parent.mkdir(parents=True, exist_ok=True)
    tracking_uri.create_whole(path, lambda other: RDBStorage(f"sqlite:///{other}").engine.dispose())
    return RDBStorage(
        f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}}
    )


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
    """Within, a database that fails ends the sweep with one sentence.

    Raises:
        SweepInterruptedError: the database is away, locked, or its disk is full.
    """
    try:
        yield
    except DATABASE_ERRORS as error:
        reason = tracking_uri.reason(error.__cause__ or error)
        raise SweepInterruptedError(
            f"the studies' database cannot be used any more: {reason}; every finished "
            "epoch is kept, and the same "
            "command continues."
        ) from error


@contextmanager
def single_driver(storage: RDBStorage, name: str, folder: Path) -> Iterator[None]:
    """Hold the locks of a study: whatever is found RUNNING in it is then known to be nobody's.

    Args:
        storage: of the study. PostgreSQL has a lock of its own, for drivers on different machines:
            it is gone with the connection. Elsewhere a study belongs to one folder
            (`identity.bind_folder`), and that to who holds its lock.
        name: of the study.
        folder: of the study; the lock lies beside it, so that a folder that was moved can be moved
            back.

    Raises:
        ConfigError: another driver holds one of them.
    """
    with _locked_folder(folder):
        if storage.engine.dialect.name != POSTGRES:
            yield
            return
        with storage.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            lock = text("SELECT pg_try_advisory_lock(hashtext(:name))")
            if not connection.execute(lock, {"name": f"svhn_sweep {name}"}).scalar():
                raise ConfigError(
                    f"the study {name} must have one driver at a time, but "
                    "another one on this database works on it; "
                    "wait for it or stop it."
                )
            try:
                yield
            finally:
                # closes it, and frees the lock, though the server may be out of reach
                connection.invalidate()


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ConfigError(
                f"the study {folder.name} must have one driver at a time, but "
                f"process {file.read().strip()} works on "
                "it; wait for it or stop it."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
