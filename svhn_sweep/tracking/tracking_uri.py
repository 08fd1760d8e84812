"""Determines the MLflow store, connects to it, and keeps its credentials out of messages."""

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from svhn_sweep.errors import ConfigError
from svhn_sweep.files import create_atomically

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
SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def store_uri() -> str:
    """Returns `MLFLOW_TRACKING_URI`, by default mlflow.db in this folder as for `mlflow ui`.

    A path of a SQLite file is made absolute.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    kind, _, path = uri.partition(":///")
    return f"{kind}:///{Path.cwd() / path}" if kind == "sqlite" and path else uri


def exists() -> bool:
    """Returns False for a SQLite file that does not exist; True for any other store."""
    return scheme() != "sqlite" or _sqlite_file().exists()


def check() -> None:
    """Checks the store's address, which MLflow would refuse only after the training.

    Raises:
        ConfigError: `MLFLOW_TRACKING_URI` is neither a server nor a database, or has a `~`.
    """
    home = "sqlite:///~/"
    if (os.environ.get("MLFLOW_TRACKING_URI") or "").startswith(home):
        raise ConfigError(
            "MLFLOW_TRACKING_URI must be without ~, which MLflow takes for a folder's name; "
            f"write sqlite:///{Path.home()}/ instead of {home}."
        )
    if scheme() not in SERVERS + DATABASES:
        raise ConfigError(
            "MLFLOW_TRACKING_URI must begin with one of "
            f"{', '.join(f'{name}:' for name in SERVERS + DATABASES)} "
            f"but is {redact(store_uri())}."
        )


def scheme() -> str:
    """Returns the kind of the store: one of `SERVERS` or `DATABASES`, if `check` passes."""
    return re.split(r"[+:]", store_uri(), maxsplit=1)[0]


def is_server() -> bool:
    """Returns whether the store is an MLflow server."""
    return scheme() in SERVERS


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
    return re.sub(r"(?<=://)[^/\s]+@", "***@", text)


def reason(error: BaseException) -> str:
    """Returns the first line of an error's message, redacted; the error's name if it has none."""
    lines = redact(str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def connect() -> "MlflowClient":
    """Returns a client of the store; a new SQLite store is created with all its tables."""
    for library in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(library).setLevel(logging.ERROR)
    from mlflow import MlflowClient

    if scheme() == "sqlite":
        # MLflow takes 2 s for the tables, and cannot use or repair a file with some of them.
        create_atomically(_sqlite_file(), _create_tables)
    return MlflowClient(tracking_uri=store_uri())


def is_available() -> bool:
    """Returns whether the store answers and accepts the user's credentials."""
    try:
        connect().search_experiments(max_results=1)
    except Exception:  # noqa: BLE001  # from MLflow, requests or a database driver
        return False
    return True


def _sqlite_file() -> Path:
    return Path(store_uri().removeprefix("sqlite:///"))


def _create_tables(path: Path) -> None:
    from mlflow import MlflowClient

    MlflowClient(tracking_uri=f"sqlite:///{path}")
