"""Builds addresses of runs and studies in MLflow's UI."""

import os
from collections.abc import Iterable
from pathlib import Path

from svhn_sweep.tracking import journal, saved_views, tracking_uri, upload_state
from svhn_sweep.tracking.upload_state import UploadState

LOOPBACK = "127.0.0.1"


def pages(folder: Path) -> dict[str, str]:
    """Returns the pages of a study relative to the server, by name: its saved views and its run.

    The result is empty until the study's run is uploaded.
    """
    state = upload_state.load(folder)
    if state is None:
        return {}
    start, _ = next(journal.read(folder))
    views = saved_views.pages(folder, state["experiment_id"])
    return views | {f"Study {start['name']}": _run_page(state)}


def addresses(folders: Iterable[Path], server: str | None = None) -> dict[str, str]:
    """Returns the complete addresses of the `pages` of several studies, by name.

    Args:
        folders: The folders of the studies.
        server: The address of the server; None means `server_address()`.
    """
    start = server or server_address()
    return {name: f"{start}/{page}" for folder in folders for name, page in pages(folder).items()}


def links(folder: Path) -> list[str]:
    """Returns lines that tell a user where to find an uploaded run and its model."""
    state = upload_state.load(folder)
    assert state is not None, "only an uploaded run has a link"
    command = [] if tracking_uri.is_server() else ["See it with: python -m svhn_sweep ui"]
    model = [f"The model: runs:/{state['run_id']}/model"] if (folder / "model").exists() else []
    views = [
        f"{name}: {server_address()}/{page}"
        for name, page in saved_views.pages(folder, state["experiment_id"]).items()
    ]
    return [*command, f"{server_address()}/{_run_page(state)}", *views, *model]


def server_address() -> str:
    """Returns the address of the server that shows the runs: the store's own, or `mlflow ui`'s."""
    if tracking_uri.is_server():
        return tracking_uri.address().rstrip("/")
    return f"http://{LOOPBACK}:{port()}"


def port() -> str:
    """Returns the port of `mlflow ui`: `MLFLOW_PORT`, 5000 by default."""
    return os.environ.get("MLFLOW_PORT", "5000")


def _run_page(state: UploadState) -> str:
    return f"#/experiments/{state['experiment_id']}/runs/{state['run_id']}?{saved_views.MODE}"
