"""`python -m svhn_sweep ui`: starts MLflow's UI on the store that runs are uploaded to."""

import os
import socket
import sys

from svhn_sweep.errors import FailedError, UserError
from svhn_sweep.tracking import saved_views, tracking_uri
from svhn_sweep.tracking.run_folders import MULTIRUN, NEWEST
from svhn_sweep.tracking.ui_links import LOOPBACK, addresses, port, server_address

DEFAULTS = {
    # 0.5 GB in 2 processes instead of 2.9 GB in 15
    "MLFLOW_WORKERS": "1",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # less output: each request of a browser would be a line
    "MLFLOW_UVICORN_OPTS": "--no-access-log",
    "PYTHONWARNINGS": "ignore",
}


def ui() -> None:
    """Prints the addresses of the newest sweep's views and turns into `mlflow ui`.

    If the store is a server, which has a UI already, only the addresses are printed.

    Raises:
        UserError: `MLFLOW_PORT` is no port, or the port is in use.
        FailedError: The store cannot be opened.
    """
    tracking_uri.check()
    if tracking_uri.is_server():
        print("The runs are on a server:")
        _print_addresses()
        return
    _check_port()
    try:
        tracking_uri.connect()  # creates a new store before the UI opens it
    except Exception as error:
        raise FailedError(
            f"MLflow cannot open {tracking_uri.address()}: {tracking_uri.reason(error)}"
        ) from error
    print("MLflow's UI answers in some 10 s; Ctrl-C ends it.")
    _print_addresses()
    for key, value in DEFAULTS.items():
        os.environ.setdefault(key, value)
    os.environ["MLFLOW_HOST"] = LOOPBACK  # whatever MLflow's own setting is: no access from outside
    # Not an argument, which every user of the machine can read.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = tracking_uri.store_uri()
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui"])  # noqa: S606


def _print_addresses() -> None:
    experiments = f"{server_address()}/#/experiments?{saved_views.MODE}"
    for name, address in {**_newest_sweep(), "All experiments": experiments}.items():
        print(f"{name}: {address}", flush=True)
    print(
        f"{server_address()} alone opens MLflow's GenAI page; `Model training` at its top left "
        "leads to the runs.",
        flush=True,
    )


def _check_port() -> None:
    if not port().isdecimal() or not 1 <= int(port()) <= 65535:
        raise UserError(f"MLFLOW_PORT must be a number from 1 to 65535 but is {port()!r}.")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, int(port())))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            listener.bind((LOOPBACK, 0))
            raise UserError(
                f"port {port()} cannot be used: {reason}; "
                f"MLFLOW_PORT={listener.getsockname()[1]} is free."
            ) from error


def _newest_sweep() -> dict[str, str]:
    """Returns the addresses of the pages of the sweep that was started last, by name."""
    newest = MULTIRUN / NEWEST
    names = newest.read_text(encoding="utf-8").splitlines() if newest.is_file() else []
    return addresses(MULTIRUN / name for name in names)
