"""Which MLflow store, how to speak to it, and how to speak of it without giving a password away."""

import logging
import os
import re
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from svhn_sweep.errors import ConfigError

if TYPE_CHECKING:  # importing it takes 2 s
    from mlflow import MlflowClient

# Before mlflow is imported: no telemetry, no lines of its own at the end of each run that a server
# is told about, and a call to a dead server ends in seconds, not in its default four minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

ARTIFACTS = "mlruns"
SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def store_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else what `mlflow ui` takes by default in this folder; SQLite's
    path is absolute.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    kind, _, path = uri.partition(":///")
    return f"{kind}:///{Path.cwd() / path}" if kind == "sqlite" and path else uri


def exists() -> bool:
    """Whether there can be anything in the store: `connect` makes a SQLite file that is not
    there.
    """
    return scheme() != "sqlite" or _sqlite_file().exists()


def check() -> None:
    """Refuse an address that MLflow would only refuse after the training.

    Raises:
        ConfigError: `MLFLOW_TRACKING_URI` is neither a server nor a database.
    """
    if scheme() not in SERVERS + DATABASES:
        raise ConfigError(
            "MLFLOW_TRACKING_URI must begin with one of "
            f"{', '.join(f'{name}:' for name in SERVERS + DATABASES)} "
            f"but is {redacted(store_uri())}."
        )


def scheme() -> str:
    """The kind of the store: one of `SERVERS` or `DATABASES`, if `check` passes."""
    return re.split(r"[+:]", store_uri(), maxsplit=1)[0]


def address() -> str:
    """The store's URI without user, password and query: its identity, and safe to show."""
    uri = store_uri()
    if scheme() == "sqlite":
        return uri
    before, _, rest = uri.partition("://")
    return f"{before}://{rest.rpartition('@')[2].partition('?')[0]}"


def redacted(text: str) -> str:
    """The text without the credentials of any URI in it; those of the present store are found in
    any spelling.
    """
    uri = store_uri()
    if scheme() != "sqlite":
        rest = uri.partition("://")[2]
        user_and_password = rest.rpartition("@")[0]
        secrets = {user_and_password, user_and_password.partition(":")[2], rest.partition("?")[2]}
        for secret in secrets | {unquote(secret) for secret in secrets}:
            text = text.replace(secret, "***") if secret else text
    return re.sub(r"(?<=://)[^/\s]+@", "***@", text)


def reason(error: BaseException) -> str:
    """The first line of an error's message without credentials, or its name if it has no
    message.
    """
    lines = redacted(str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def connect() -> "MlflowClient":
    """A client of the store; creates the tables of a new SQLite store."""
    for noisy in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    from mlflow import MlflowClient

    if scheme() == "sqlite":
        create_whole(_sqlite_file(), _create_tables)
    return MlflowClient(tracking_uri=store_uri())


def answers() -> bool:
    """Whether the store is there, and lets this user in."""
    try:
        connect().search_experiments(max_results=1)
    except Exception:  # noqa: BLE001  # of MLflow, requests or a database
        return False
    return True


def _sqlite_file() -> Path:
    return Path(store_uri().removeprefix("sqlite:///"))


def _create_tables(path: Path) -> None:
    from mlflow import MlflowClient

    MlflowClient(tracking_uri=f"sqlite:///{path}")


def create_whole(path: Path, create: Callable[[Path], object]) -> None:
    """Make a new SQLite database in one atomic step, whichever process is first.

    MLflow takes 2 s for its tables, and a process that dies within leaves a file that no MLflow can
    use or mend.

    Args:
        path: of the database; if it exists nothing is done.
        create: makes all tables in a file of another name.
    """
    if path.exists():
        return
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        create(unfinished)
        with suppress(FileExistsError):  # another process was faster
            path.hardlink_to(unfinished)
    finally:
        unfinished.unlink(missing_ok=True)
