"""Addresses of runs and studies in MLflow's UI."""

import os
from collections.abc import Iterable
from pathlib import Path

from svhn_sweep.tracking import journal, saved_views, tracking_uri, upload_state

LOOPBACK = "127.0.0.1"


def pages(folder: Path) -> dict[str, str]:
    """The views and the page of a study, by name, relative to the server; none before MLflow has
    heard of it.
    """
    sent = upload_state.load(folder)
    if sent is None:
        return {}
    start, _ = next(journal.read(folder))
    return saved_views.pages(folder, sent["experiment_id"]) | {f"Study {start['name']}": _run(sent)}


def addresses(folders: Iterable[Path]) -> dict[str, str]:
    """The same of several studies, whole."""
    return {
        name: f"{server_address()}/{page}"
        for folder in folders
        for name, page in pages(folder).items()
    }


def links(folder: Path) -> list[str]:
    """Lines that tell where a sent run is found in the UI."""
    sent = upload_state.load(folder)
    assert sent is not None, "only a run that was sent has a link"
    how = (
        []
        if tracking_uri.scheme() in tracking_uri.SERVERS
        else ["See it with: python -m svhn_sweep ui"]
    )
    model = [f"The model: runs:/{sent['run_id']}/model"] if (folder / "model").exists() else []
    return [*how, f"{server_address()}/{_run(sent)}", *model]


def server_address() -> str:
    return (
        tracking_uri.address().rstrip("/")
        if tracking_uri.scheme() in tracking_uri.SERVERS
        else f"http://{LOOPBACK}:{port()}"
    )


def port() -> str:
    return os.environ.get("MLFLOW_PORT", "5000")  # MLflow's own setting and default


def _run(sent: upload_state.Sent) -> str:
    return f"#/experiments/{sent['experiment_id']}/runs/{sent['run_id']}?{saved_views.MODE}"
