"""Which MLflow store, and how to speak to it."""

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing it takes 2 s
    from mlflow import MlflowClient

# Before mlflow is imported: no telemetry, and a call to a dead server ends in seconds, not in its default four minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

ARTIFACTS = "mlruns"


def store_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else what `mlflow ui` takes by default in this folder, made absolute."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def redacted(text: str) -> str:
    """The text without the user and password of any URI in it."""
    return re.sub(r"(?<=://)[^/\s]+@", "***@", text)


def without_credentials(uri: str) -> str:
    """The URI as one may print it for others to open."""
    return re.sub(r"(?<=://)[^/\s]+@", "", uri)


def is_local(uri: str) -> bool:
    """Whether the store is a file on this machine rather than a server."""
    return uri.startswith("sqlite:")


def connect() -> "MlflowClient":
    """A client of the store; creates the tables of a new SQLite store."""
    for noisy in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=store_uri())
