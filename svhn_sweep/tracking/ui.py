"""`python -m svhn_sweep ui`: MLflow's UI on the store that runs are sent to."""

import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from svhn_sweep.errors import FailedError, UserError
from svhn_sweep.tracking import journal, memory, store, views
from svhn_sweep.tracking.sync import MULTIRUN, NEWEST

QUIETER = {
    "MLFLOW_UVICORN_OPTS": "--no-access-log",  # each request of a browser would be a line
    "PYTHONWARNINGS": "ignore",
}
LOOPBACK = "127.0.0.1"
LIGHTER = {"MLFLOW_WORKERS": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def pages(folder: Path) -> dict[str, str]:
    """The views and the page of a study, by name, relative to the server; none before MLflow has heard of it."""
    sent = memory.recall(folder)
    if sent is None:
        return {}
    start, _ = next(journal.read(folder))
    return views.pages(folder, sent["experiment_id"]) | {f"Study {start['name']}": _run(sent)}


def addresses(folders: Iterable[Path]) -> dict[str, str]:
    """The same of several studies, whole."""
    return {name: f"{_server()}/{page}" for folder in folders for name, page in pages(folder).items()}


def links(folder: Path) -> list[str]:
    """Lines that tell where a sent run is found in the UI."""
    sent = memory.recall(folder)
    assert sent is not None, "only a run that was sent has a link"
    how = [] if store.scheme() in store.SERVERS else ["See it with: python -m svhn_sweep ui"]
    model = [f"The model: runs:/{sent['run_id']}/model"] if (folder / "model").exists() else []
    return [*how, f"{_server()}/{_run(sent)}", *model]


def ui() -> None:
    """Print where the views of the newest study are; then become `mlflow ui`, unless a server has the runs.

    With light settings it takes 0.5 GB in 2 processes instead of 2.9 GB in 15.

    Raises:
        UserError: the port is taken, or none.
        FailedError: the store cannot be opened.
    """
    store.check()
    at_a_server = store.scheme() in store.SERVERS
    if not at_a_server:
        _check_port()
        try:
            store.connect()  # makes a new store whole before the UI opens it
        except Exception as error:
            raise FailedError(f"MLflow cannot open {store.address()}: {store.reason(error)}") from error
    print("The runs are on a server:" if at_a_server else "MLflow's UI answers in some 10 s; Ctrl-C ends it.")
    for name, page in {**_newest(), "All experiments": f"{_server()}/#/experiments?{views.MODE}"}.items():
        print(f"{name}: {page}", flush=True)
    if at_a_server:
        return
    for key, value in (LIGHTER | QUIETER).items():
        os.environ.setdefault(key, value)
    os.environ["MLFLOW_HOST"] = LOOPBACK  # nobody else sees the runs, whatever MLflow's own setting is
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store.store_uri()  # not an argument: those are seen by every user
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui"])  # noqa: S606


def _run(sent: memory.Sent) -> str:
    return f"#/experiments/{sent['experiment_id']}/runs/{sent['run_id']}?{views.MODE}"


def _server() -> str:
    return store.address().rstrip("/") if store.scheme() in store.SERVERS else f"http://{LOOPBACK}:{_port()}"


def _port() -> str:
    return os.environ.get("MLFLOW_PORT", "5000")  # MLflow's own setting and default


def _check_port() -> None:
    if not _port().isdecimal() or not 1 <= int(_port()) <= 65535:
        raise UserError(f"MLFLOW_PORT must be a number from 1 to 65535 but is {_port()!r}.")
    with socket.socket() as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            port.bind((LOOPBACK, int(_port())))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"port {_port()} cannot be used: {reason}; MLFLOW_PORT=5001 takes another.") from error


def _newest() -> dict[str, str]:
    """The views of the sweep that was started last, of each of its studies."""
    names = (MULTIRUN / NEWEST).read_text(encoding="utf-8").splitlines() if (MULTIRUN / NEWEST).exists() else []
    return addresses(MULTIRUN / name for name in names)
