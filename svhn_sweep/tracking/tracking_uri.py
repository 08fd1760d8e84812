"""Determines the MLflow store, connects to it, and keeps its credentials out of messages."""

import logging
import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from svhn_sweep.errors import ConfigError
from svhn_sweep.files import create_atomically
from svhn_sweep.tracking.moved_store import correct_addresses

if TYPE_CHECKING:  # importing it takes 2 s
    from mlflow import MlflowClient

# Set before MLflow is imported: no telemetry, no output at the end of each run on a server, and a
# call to a dead server ends in seconds, not in MLflow's default of four minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

ARTIFACTS = "mlruns"
DEFAULT = "sqlite:///mlflow.db"
STORES = re.compile(r"https?://[^/\s]|sqlite:///[^?]+$|(postgresql|mysql|mssql)(\+\w+)?://\S")
# Parameters of a URI that hold a secret; psycopg's `passfile` is a path.
SECRET_PARAM = re.compile(r"[?&][\w-]*(passw|pwd|secret|token)[\w-]*=", re.IGNORECASE)


def store_uri() -> str:
    """Returns `MLFLOW_TRACKING_URI`, by default mlflow.db in this folder as for `mlflow ui`.

    A path of a SQLite file is made absolute.
    """
    uri = _setting()
    kind, _, path = uri.partition(":///")
    return f"{kind}:///{Path.cwd() / path}" if kind == "sqlite" and path else uri


def exists() -> bool:
    """Returns False for a SQLite file that does not exist; True for any other store."""
    return scheme() != "sqlite" or _sqlite_file().exists()


def check() -> None:
    """Checks the variables that MLflow would refuse only after the training.

    Raises:
        ConfigError: `MLFLOW_TRACKING_URI` is neither a server nor a database, or has a `~`, or its
            SQLite file is something else, or `MLFLOW_LOGGING_LEVEL` is no level.
    """
    home = "sqlite:///~/"
    if _setting().startswith(home):
        raise ConfigError(
            "MLFLOW_TRACKING_URI must be without ~, which MLflow takes for a folder's name; "
            f"write sqlite:///{Path.home()}/ instead of {home}."
        )
    level = os.environ.get("MLFLOW_LOGGING_LEVEL", "")
    levels = logging.getLevelNamesMapping()
    if level and level.upper() not in levels:
        raise ConfigError(
            f"MLFLOW_LOGGING_LEVEL must be one of {', '.join(levels)} but is {level!r}."
        )
    if not STORES.match(_setting()):
        raise ConfigError(
            "MLFLOW_TRACKING_URI must be http://HOST, https://HOST, sqlite:///FILE or the address "
            "of a postgresql, mysql or mssql database, "
            f"but begins with {beginning(_setting())!r}."
        )
    # SQLite waits for ever for a FIFO.
    if scheme() == "sqlite" and os.path.lexists(_sqlite_file()) and not _sqlite_file().is_file():
        raise ConfigError(
            f"{_sqlite_file()} must be a file, MLflow's database, but is none; move it away or set "
            "MLFLOW_TRACKING_URI to another."
        )


def beginning(uri: str) -> str:
    """Returns what a malformed address begins with; the rest may be a password."""
    start = uri.partition(":")[0]
    return "***" if "@" in start else start


def scheme() -> str:
    """Returns the kind of the store: http, https, sqlite, postgresql, mysql or mssql."""
    return re.split(r"[+:]", store_uri(), maxsplit=1)[0]


def is_server() -> bool:
    """Returns whether the store is an MLflow server."""
    return scheme() in ("http", "https")


def address() -> str:
    """Returns the store's URI without user, password and query; it identifies the store."""
    uri = store_uri()
    if scheme() == "sqlite":
        return uri
    start, _, rest = uri.partition("://")
    return f"{start}://{rest.rpartition('@')[2].partition('?')[0]}"


def redact(text: str) -> str:
    """Replaces the credentials of every URI in a text by `***`.

    The current store's credentials are replaced outside a URI too, and when they are unquoted.
    """
    uri = store_uri()
    if scheme() != "sqlite":
        rest = uri.partition("://")[2]
        user_and_password = rest.rpartition("@")[0]
        secrets = {user_and_password, user_and_password.partition(":")[2], rest.partition("?")[2]}
        for secret in secrets | {unquote(secret) for secret in secrets}:
            text = text.replace(secret, "***") if secret else text
    text = re.sub(rf"({SECRET_PARAM.pattern})[^&\s'\"]+", r"\1***", text, flags=re.IGNORECASE)
    return re.sub(r"(?<=://)[^/\s][^\s'\"]*@", "***@", text)


def reason(error: BaseException) -> str:
    """Returns the first line of an error's message, redacted; the error's name if it has none."""
    lines = redact(str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def connect() -> "MlflowClient":
    """Returns a client of the store; a new SQLite store is created with all its tables."""
    from mlflow import MlflowClient  # sets the levels of its loggers, and Alembic's

    # Each error is raised too; MLflow logs those of a database with 60 lines of traceback.
    for library in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(library).setLevel(logging.CRITICAL)

    if scheme() == "sqlite":
        # MLflow takes 2 s for the tables, and cannot use or repair a file with some of them.
        create_atomically(_sqlite_file(), _create_tables)
    client = MlflowClient(tracking_uri=store_uri())  # refuses what is no store of its version
    if scheme() == "sqlite":
        _correct_addresses(_sqlite_file())
    return client


def is_available() -> bool:
    """Returns whether the store answers and accepts the user's credentials."""
    try:
        connect().search_experiments(max_results=1)
    except Exception:  # noqa: BLE001  # from MLflow, requests or a database driver
        return False
    return True


def _setting() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT


def _sqlite_file() -> Path:
    return Path(store_uri().removeprefix("sqlite:///"))


@cache
def _correct_addresses(database: Path) -> None:
    """Tells the user about a store that was moved, when a process first connects to it."""
    artifacts = database.parent / ARTIFACTS
    old = correct_addresses(database, artifacts)
    if old is not None:
        print(
            f"svhn_sweep: {database.name} was moved or copied from {old.parent}; MLflow now finds "
            f"its artifacts in {artifacts}. `python -m svhn_sweep sync` brings back ui's links to "
            "the newest sweep.",
            file=sys.stderr,
        )


def _create_tables(path: Path) -> None:
    from mlflow import MlflowClient

    MlflowClient(tracking_uri=f"sqlite:///{path}")
