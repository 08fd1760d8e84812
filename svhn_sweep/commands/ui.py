"""`python -m svhn_sweep ui`: starts MLflow's UI on the store that runs are uploaded to."""

import os
import socket
import sys

from svhn_sweep.errors import FailedError, UserError
from svhn_sweep.tracking import saved_views, tracking_uri
from svhn_sweep.tracking.run_folders import MULTIRUN, NEWEST
from svhn_sweep.tracking.ui_links import LOOPBACK, addresses, server_address

DEFAULTS = {
    # 0.5 GB in 2 processes instead of 2.9 GB in 15
    "MLFLOW_WORKERS": "1",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # less output: each request of a browser would be a line
    "MLFLOW_UVICORN_OPTS": "--no-access-log",
    "PYTHONWARNINGS": "ignore",
}
ALL_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104


def ui(host: str, port: str) -> None:
    """Prints the addresses of the newest sweep's views and turns into `mlflow ui`.

    If the store is a server, which has a UI already, only the addresses are printed.

    Args:
        host: The name or IP address that the UI listens on.
        port: The port that it listens on.

    Raises:
        UserError: `port` is none, or cannot be used on `host`.
        FailedError: The store cannot be opened.
    """
    tracking_uri.check()
    if tracking_uri.is_server():
        print("The runs are on a server:")
        _print_addresses(server_address())
        return
    _check_port(host, port)
    try:
        tracking_uri.connect()  # creates a new store before the UI opens it
    except Exception as error:
        raise FailedError(
            f"MLflow cannot open {tracking_uri.address()}: {tracking_uri.reason(error)}"
        ) from error
    print("MLflow's UI answers in some 10 s; Ctrl-C ends it.")
    shown_host = LOOPBACK if host in ALL_ADDRESSES else f"[{host}]" if ":" in host else host
    _print_addresses(f"http://{shown_host}:{port}")
    for key, value in DEFAULTS.items():
        os.environ.setdefault(key, value)
    # Not arguments, which every user of the machine can read.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = tracking_uri.store_uri()
    os.environ.update(MLFLOW_HOST=host, MLFLOW_PORT=port)  # whatever MLflow's own settings are
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui"])  # noqa: S606


def _print_addresses(server: str) -> None:
    experiments = f"{server}/#/experiments?{saved_views.MODE}"
    for name, address in {**_newest_sweep(server), "All experiments": experiments}.items():
        print(f"{name}: {address}", flush=True)
    print(
        f"{server} alone opens MLflow's GenAI page; `Model training` at its top left "
        "leads to the runs.",
        flush=True,
    )


def _check_port(host: str, port: str) -> None:
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise UserError(
            f"the port, --port or MLFLOW_PORT, must be a number from 1 to 65535 but is {port!r}."
        )
    try:
        family, *_, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UserError(f"--host must be an address of this machine but got {host!r}.") from error
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(
                f"port {port} cannot be used on {host}: {reason}{_free_port(family, host)}."
            ) from error


def _free_port(family: int, host: str) -> str:
    """Names a port that is free, if one is: not on an address of another machine."""
    with socket.socket(family) as listener:
        try:
            listener.bind((host, 0))
        except OSError:
            return ""
        return f"; --port {listener.getsockname()[1]} is free"


def _newest_sweep(server: str) -> dict[str, str]:
    """Returns the addresses of the pages of the sweep that was started last, by name."""
    newest = MULTIRUN / NEWEST
    names = newest.read_text(encoding="utf-8").splitlines() if newest.is_file() else []
    return addresses((MULTIRUN / name for name in names), server)
