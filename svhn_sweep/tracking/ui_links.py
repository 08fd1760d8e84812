"""Builds addresses of runs and studies in MLflow's UI."""

import os
from collections.abc import Iterable
from pathlib import Path

from svhn_sweep.tracking import journal, saved_views, tracking_uri, upload_state
from svhn_sweep.tracking.run_folders import MULTIRUN, NEWEST, RUN_FOLDERS
from svhn_sweep.tracking.upload_state import UploadState

LOOPBACK = "127.0.0.1"


def pages(folder: Path) -> dict[str, str]:
    """Returns the pages of a run relative to the server, by name: its saved views and its own page.

    The result is empty until the run is uploaded.

    Args:
        folder: The folder of a study, a grid or a single run.
    """
    state = upload_state.load(folder)
    if state is None:
        return {}
    start, _ = next(journal.read(folder))
    views = saved_views.pages(folder, state["experiment_id"])
    kind = "Study" if _role(folder) == "sweep" else "Run"
    return views | {f"{kind} {start['name']}": _run_page(state)}


def addresses(folders: Iterable[Path], server: str | None = None) -> dict[str, str]:
    """Returns the complete addresses of the `pages` of several runs, by name.

    Args:
        folders: The folders of studies, grids or single runs.
        server: The address of the server; None means `server_address()`.
    """
    start = server or server_address()
    return {name: f"{start}/{page}" for folder in folders for name, page in pages(folder).items()}


def newest_addresses(server: str) -> dict[str, str]:
    """Returns the addresses of the newest sweep, grid and single run, by name.

    The newest sweep is the one that was started last, the others are the newest ones in MLflow.

    Args:
        server: The address of the server.
    """
    newest = MULTIRUN / NEWEST
    names = newest.read_text(encoding="utf-8").splitlines() if newest.is_file() else []
    return addresses([*(MULTIRUN / name for name in names), *_newest_runs()], server)


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


def _newest_runs() -> list[Path]:
    """Returns the folders of the newest grid and of the newest single run, if they are uploaded."""
    newest: dict[bool, tuple[int, Path]] = {}  # by whether it is a grid
    for folder in (folder for root in RUN_FOLDERS for folder in journal.find_runs(root)):
        start, _ = next(journal.read(folder))
        if "parent" in start or upload_state.load(folder) is None:
            continue
        role = _role(folder)
        if role != "sweep":
            is_grid = role == "grid"
            newest[is_grid] = max(newest.get(is_grid, (0, folder)), (start["time"], folder))
    return [newest[is_grid][1] for is_grid in (True, False) if is_grid in newest]


def _role(folder: Path) -> str:
    """Returns the tag `role` of a run; empty if it has none yet."""
    tags = (event["values"] for event, _ in journal.read(folder) if event["kind"] == "tags")
    return str(next((values["role"] for values in tags if "role" in values), ""))
