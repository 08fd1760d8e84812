"""What each store has of a run: `mlflow.json` in the run's folder. It can be read without
importing MLflow.
"""

import json
from pathlib import Path
from typing import TypedDict

from svhn_sweep.tracking import tracking_uri

SENT = "mlflow.json"


class Sent(TypedDict):
    """How far a journal has been sent to one store."""

    run_id: str
    experiment_id: str
    position: int  # bytes


def load(folder: Path) -> Sent | None:
    """What is known of earlier sending to the present store."""
    return _known(folder).get(tracking_uri.address())


def save(folder: Path, sent: Sent | None) -> None:
    """Note it for the present store; None: it has nothing."""
    known = _known(folder)
    if sent is None:
        known.pop(tracking_uri.address(), None)
    else:
        known[tracking_uri.address()] = sent
    unfinished = folder / f"{SENT}.unfinished"
    unfinished.write_text(json.dumps(known, indent=2))
    unfinished.replace(folder / SENT)


def _known(folder: Path) -> dict[str, Sent]:
    try:
        known: dict[str, Sent] = json.loads((folder / SENT).read_text())
    except (FileNotFoundError, ValueError):  # without it everything is sent again, to the same run
        return {}
    return known
