"""Stores how far a run was uploaded to each MLflow store, readable without importing MLflow."""

import json
from pathlib import Path
from typing import TypedDict

from svhn_sweep.files import write_atomically
from svhn_sweep.tracking import tracking_uri

FILE_NAME = "mlflow.json"


class UploadState(TypedDict):
    """How far a run's journal was uploaded to one store."""

    run_id: str
    experiment_id: str
    position: int  # bytes of the journal


def load(folder: Path) -> UploadState | None:
    """Returns the run's state in the current store; None if nothing was uploaded."""
    return _load_all(folder).get(tracking_uri.address())


def save(folder: Path, state: UploadState | None) -> None:
    """Replaces the run's state in the current store; None removes it."""
    states = _load_all(folder)
    if state is None:
        states.pop(tracking_uri.address(), None)
    else:
        states[tracking_uri.address()] = state
    write_atomically(folder / FILE_NAME, json.dumps(states, indent=2), sync=False)


def _load_all(folder: Path) -> dict[str, UploadState]:
    """Returns the states by the address of the store."""
    try:
        states: dict[str, UploadState] = json.loads((folder / FILE_NAME).read_text())
    except (FileNotFoundError, ValueError):  # then all is uploaded again, to the same run
        return {}
    return states
