"""`python -m svhn_sweep ui`: MLflow's UI on the store that runs are sent to."""

import os
import socket
import sys
from pathlib import Path

from svhn_sweep.errors import UserError
from svhn_sweep.tracking import store

PORT = 5000  # mlflow's own default
ADDRESS = f"http://127.0.0.1:{PORT}"
MODE = "workflowType=machine_learning"  # without it MLflow opens in its GenAI mode


def links(folder: Path) -> list[str]:
    """Lines that tell where a sent run is found in the UI."""
    from svhn_sweep.tracking.sending import recall

    sent = recall(folder)
    assert sent is not None, "only a run that was sent has a link"
    page = f"#/experiments/{sent['experiment_id']}/runs/{sent['run_id']}?{MODE}"
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
    print(f"{ADDRESS}/#/experiments?{MODE} answers in about 20 s; Ctrl-C ends it.", flush=True)
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui"])  # noqa: S606
