"""Where Optuna keeps its studies: a SQLite file that one driver at a time works on, or PostgreSQL for many hosts."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from sqlalchemy import URL, Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from svhn_sweep.errors import ConfigError
from svhn_sweep.sweep.patience import PatientStorage
from svhn_sweep.tracking import store

Storage = optuna.storages.RDBStorage | PatientStorage

BUSY_SECONDS = 60  # how long one process waits while another writes to SQLite
POSTGRES = "postgresql+psycopg"
# A host that is cut off hears of it within seconds, not when TCP gives up; clocks are the server's, in one time zone.
CONNECTION = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "options": "-c timezone=UTC -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
    "application_name": "svhn_sweep",
}


def url(setting: str | None) -> URL:
    """The database named by `hydra.sweeper.storage`; by default optuna.db, beside mlflow.db.

    Raises:
        ConfigError: it is neither a SQLite file nor PostgreSQL.
    """
    if setting is None:
        return URL.create("sqlite", database=str(Path.cwd() / "optuna.db"))
    kind = setting.partition(":")[0]  # no more of it: there may be a password
    try:
        parsed = make_url(setting)
    except ArgumentError:
        parsed = URL.create("nothing")
    if parsed.drivername == "sqlite" and parsed.database:
        return parsed.set(database=str(Path.cwd() / parsed.database))
    if parsed.drivername == POSTGRES and parsed.database:
        if parsed.password is not None or any("password" in key for key in parsed.query):
            raise ConfigError("hydra.sweeper.storage must not hold a password; give it in PGPASSWORD or PGPASSFILE.")
        return parsed
    raise ConfigError(
        f"hydra.sweeper.storage must be sqlite:///FILE or {POSTGRES}://USER@HOST/DATABASE but begins with {kind!r}."
    )


def is_shared(database: URL) -> bool:
    """Whether several drivers, on one host or many, may work on its studies."""
    return database.drivername == POSTGRES


def connect(database: URL) -> Storage:
    """The storage in that database; a new one appears whole, since a process may die while it makes the tables.

    Raises:
        ConfigError: it cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        return _postgres(database) if is_shared(database) else _sqlite(database)
    except (OSError, SQLAlchemyError, RuntimeError, ImportError, optuna.exceptions.StorageInternalError) as error:
        shown = database.render_as_string(hide_password=True)
        hint = " (user in the address, password: PGPASSWORD or PGPASSFILE)" if is_shared(database) else ""
        hint = "; install this package's extra `postgres`" if isinstance(error, ImportError) else hint
        raise ConfigError(
            f"hydra.sweeper.storage must be a database of Optuna's but {shown} is not: {store.reason(error)}{hint}."
        ) from error


def _sqlite(database: URL) -> optuna.storages.RDBStorage:
    assert database.database
    path = Path(database.database)
    path.parent.mkdir(parents=True, exist_ok=True)
    store.create_whole(path, lambda other: optuna.storages.RDBStorage(f"sqlite:///{other}").engine.dispose())
    return optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}})


def _postgres(database: URL) -> PatientStorage:
    settings = {"connect_args": CONNECTION, "pool_pre_ping": True, "pool_size": 2}
    address = database.render_as_string(hide_password=False)
    engine = create_engine(database, **settings)
    try:
        lock = _lock(engine, "tables")
        try:
            return PatientStorage(optuna.storages.RDBStorage(address, engine_kwargs=settings))  # type: ignore[abstract]
        finally:
            lock.invalidate()
    finally:
        engine.dispose()


@contextmanager
def exclusive(storage: Storage, name: str) -> Iterator[None]:
    """One driver at a time, on whatever host, does what has this name; where there is one driver, nothing to wait for.

    PostgreSQL lets go of the lock when the process or its network is gone, so what is done within bears doing twice.
    """
    if not isinstance(storage, PatientStorage):
        yield
        return
    lock = storage.wait(lambda: _lock(storage.engine, name))
    try:
        yield
    finally:
        lock.invalidate()  # closes the connection, and frees the lock with it, though the server may be out of reach


def _lock(engine: Engine, name: str) -> Connection:
    """A connection that has the lock of this name, as soon as it is free."""
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    connection.execute(text("SELECT pg_advisory_lock(hashtext(:name))"), {"name": f"svhn_sweep {name}"})
    return connection


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
