"""`python -m svhn_sweep ui`: MLflow's UI on the store that runs are sent to."""

import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from svhn_sweep.errors import UserError
from svhn_sweep.tracking import memory, store, views
from svhn_sweep.tracking.journal import JOURNAL
from svhn_sweep.tracking.sync import MULTIRUN

PORT = 5000  # mlflow's own default
ADDRESS = f"http://127.0.0.1:{PORT}"


def pages(folder: Path) -> dict[str, str]:
    """The views of a study, by name, relative to the server; none before MLflow has heard of it."""
    sent = memory.recall(folder)
    return views.pages(folder, sent["experiment_id"]) if sent is not None else {}


def addresses(folders: Iterable[Path]) -> dict[str, str]:
    """The same of several studies, whole."""
    server = store.address().rstrip("/") if store.scheme() in store.SERVERS else ADDRESS
    return {name: f"{server}/{page}" for folder in folders for name, page in pages(folder).items()}


def links(folder: Path) -> list[str]:
    """Lines that tell where a sent run is found in the UI."""
    sent = memory.recall(folder)
    assert sent is not None, "only a run that was sent has a link"
    page = f"#/experiments/{sent['experiment_id']}/runs/{sent['run_id']}?{views.MODE}"
    if store.scheme() in store.SERVERS:
        where = [f"{store.address().rstrip('/')}/{page}"]
    else:
        where = ["See it with: python -m svhn_sweep ui", f"{ADDRESS}/{page}"]
    return [*where, f"The model, if it was logged: runs:/{sent['run_id']}/model"]


def ui() -> None:
    """Replace this process by `mlflow ui` with light settings (0.5 GB in 2 processes instead of 2.9 GB in 15)."""
    store.check()
    if store.scheme() in store.SERVERS:
        print(f"The runs are on a server: open {store.address()} in a browser.")
        return
    with socket.socket() as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            port.bind(("127.0.0.1", PORT))
        except OSError as error:
            raise UserError(f"port {PORT} is taken; end what uses it, or start `mlflow ui --port N` here.") from error
    store.connect()  # makes a new store whole before the UI opens it
    os.environ.setdefault("MLFLOW_WORKERS", "1")
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store.store_uri()  # not an argument: those are seen by every user
    print("MLflow's UI answers in about 20 s; Ctrl-C ends it.")
    for name, page in {**_newest(), "All experiments": f"{ADDRESS}/#/experiments?{views.MODE}"}.items():
        print(f"{name}: {page}", flush=True)
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui"])  # noqa: S606


def _newest() -> dict[str, str]:
    """The views of the study that was worked on last."""
    studies = sorted(MULTIRUN.glob(f"*/{JOURNAL}"), key=lambda path: path.stat().st_mtime, reverse=True)
    return next((found for path in studies if (found := addresses([path.parent]))), {})
