"""`python -m svhn_sweep ui`: MLflow's UI on the store that runs are sent to."""

import os
import socket
import sys

from svhn_sweep.errors import FailedError, UserError
from svhn_sweep.tracking import saved_views, tracking_uri
from svhn_sweep.tracking.run_folders import MULTIRUN, NEWEST
from svhn_sweep.tracking.ui_links import LOOPBACK, addresses, port, server_address

QUIETER = {
    "MLFLOW_UVICORN_OPTS": "--no-access-log",  # each request of a browser would be a line
    "PYTHONWARNINGS": "ignore",
}
LIGHTER = {"MLFLOW_WORKERS": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def ui() -> None:
    """Print where the views of the newest study are; then become `mlflow ui`, unless a server has
    the runs.

    With light settings it takes 0.5 GB in 2 processes instead of 2.9 GB in 15.

    Raises:
        UserError: the port is taken, or none.
        FailedError: the store cannot be opened.
    """
    tracking_uri.check()
    at_a_server = tracking_uri.scheme() in tracking_uri.SERVERS
    if not at_a_server:
        _check_port()
        try:
            tracking_uri.connect()  # makes a new store whole before the UI opens it
        except Exception as error:
            raise FailedError(
                f"MLflow cannot open {tracking_uri.address()}: {tracking_uri.reason(error)}"
            ) from error
    print(
        "The runs are on a server:"
        if at_a_server
        else "MLflow's UI answers in some 10 s; Ctrl-C ends it."
    )
    for name, page in {
        **_newest(),
        "All experiments": f"{server_address()}/#/experiments?{saved_views.MODE}",
    }.items():
        print(f"{name}: {page}", flush=True)
    if at_a_server:
        return
    for key, value in (LIGHTER | QUIETER).items():
        os.environ.setdefault(key, value)
    os.environ["MLFLOW_HOST"] = (
        LOOPBACK  # nobody else sees the runs, whatever MLflow's own setting is
    )
    os.environ["MLFLOW_BACKEND_STORE_URI"] = (
        tracking_uri.store_uri()
    )  # not an argument: those are seen by every user
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui"])  # noqa: S606


def _check_port() -> None:
    if not port().isdecimal() or not 1 <= int(port()) <= 65535:
        raise UserError(f"MLFLOW_PORT must be a number from 1 to 65535 but is {port()!r}.")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, int(port())))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(
                f"port {port()} cannot be used: {reason}; MLFLOW_PORT=5001 takes another."
            ) from error


def _newest() -> dict[str, str]:
    """The views of the sweep that was started last, of each of its studies."""
    names = (
        (MULTIRUN / NEWEST).read_text(encoding="utf-8").splitlines()
        if (MULTIRUN / NEWEST).exists()
        else []
    )
    return addresses(MULTIRUN / name for name in names)
