"""Corrects the addresses of artifacts in a SQLite store whose folder was moved or copied.

MLflow stores absolute addresses and has no call that changes them (mlflow/mlflow#3144).
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

ADDRESSES = (  # each table and column of MLflow 3.17 that holds the address of artifacts
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def correct_addresses(database: Path, artifacts: Path) -> Path | None:
    """Makes a store find its artifacts in the folder beside it after both were moved or copied.

    Args:
        database: The SQLite file of the store.
        artifacts: The folder beside it.

    Returns:
        The folder in which the store looked for the artifacts; None if nothing was moved.

    Raises:
        sqlite3.Error: The database is locked, or not MLflow's.
    """
    if not artifacts.is_dir():
        return None
    with closing(sqlite3.connect(database)) as connection, connection:
        moved = [old for old in _folders(connection) if _was_moved(connection, old, artifacts)]
        for old in moved:
            _replace(connection, old.as_uri(), artifacts.as_uri())
            _replace(connection, str(old), str(artifacts))  # experiments made with MLflow alone
    return moved[0] if moved else None


def _folders(connection: sqlite3.Connection) -> Iterator[Path]:
    """Yields the folders of the experiments that this package created."""
    for (address,) in connection.execute("SELECT DISTINCT artifact_location FROM experiments"):
        parts = urlsplit(address)
        if parts.scheme == "file":
            yield Path(unquote(parts.path))


def _was_moved(connection: sqlite3.Connection, old: Path, artifacts: Path) -> bool:
    """Whether the runs with artifacts in `old` have them in `artifacts`."""
    if old.name != artifacts.name or _is_same(old, artifacts):
        return False
    runs = connection.execute(
        "SELECT run_uuid FROM runs JOIN experiments USING (experiment_id) "
        "WHERE artifact_location = ?",
        [old.as_uri()],
    )
    return any((artifacts / run_id).is_dir() for (run_id,) in runs)


def _is_same(old: Path, artifacts: Path) -> bool:
    try:
        return old.samefile(artifacts)
    except OSError:  # it does not exist, or its owner is somebody else
        return False


def _replace(connection: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in ADDRESSES:
        connection.execute(
            f"UPDATE {table} "  # noqa: S608  # the names are those above
            f"SET {column} = :new || substr({column}, length(:old) + 1) "
            f"WHERE {column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/'",
            {"old": old, "new": new},
        )
