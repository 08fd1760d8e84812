"""`python -m svhn_sweep ui`: starts MLflow's UI on the store that runs are uploaded to."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException

from svhn_sweep.errors import UserError, raise_terminated
from svhn_sweep.tracking import saved_views, tracking_uri
from svhn_sweep.tracking.ui_links import LOOPBACK, newest_addresses, server_address

DEFAULTS = {
    # 0.5 GB in 3 processes instead of 2.9 GB in 15
    "MLFLOW_WORKERS": "1",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # less output: each request of a browser would be a line, the start and the end four each
    "MLFLOW_UVICORN_OPTS": "--no-access-log --log-level warning",
    "PYTHONWARNINGS": "ignore",
}
ALL_ADDRESSES = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104
SERVER = "svhn_sweep.tracking.ui_server"
ASSISTANT = (
    "MLflow opens its Assistant over a quarter of the page: close it once, at its top right."
)
POLL_SECONDS = 0.2
ANSWER_TIMEOUT_SECONDS = 5.0
STOP_TIMEOUT_SECONDS = 5.0  # for requests that the server still answers


def ui(host: str, port: str) -> None:
    """Starts MLflow's UI, prints the addresses of the newest views, and ends it on Ctrl-C.

    If the store is a server, which has a UI already, only the addresses are printed.

    Args:
        host: The name or IP address that the UI listens on.
        port: The port that it listens on.

    Raises:
        UserError: `port` is none, or cannot be used on `host`.
        SystemExit: The UI ended by itself, after it printed why.
        Terminated: The terminal was closed.
    """
    tracking_uri.check()
    if tracking_uri.is_server():
        print("The runs are on a server:")
        _print_addresses(server_address(), newest_addresses(server_address()))
        return
    _check_port(host, port)
    print(
        "MLflow starts, in some 10 s, on a busy machine in up to a minute; Ctrl-C ends it.",
        flush=True,
    )
    shown_host = LOOPBACK if host in ALL_ADDRESSES else f"[{host}]" if ":" in host else host
    address = f"http://{shown_host}:{port}"
    server = _start(host, port)
    try:
        pages = newest_addresses(address)
        if _answers(server, ALL_ADDRESSES.get(host, host), int(port)):
            print(f"MLflow's UI answers at {address}")
            _print_addresses(address, pages)
        server.wait()
    except KeyboardInterrupt:
        print()  # behind the terminal's ^C
        return
    finally:
        _stop(server)
    sys.exit(1)


def _start(host: str, port: str) -> "subprocess.Popen[bytes]":
    """Starts the server in a session of its own.

    MLflow sends its web server, uvicorn, each SIGINT. In the session of the terminal, whose Ctrl-C
    reaches all processes, uvicorn would get two, and end with a traceback.
    """
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # of a closed terminal
        signal.signal(signal.SIGHUP, raise_terminated)
    own = {"MLFLOW_HOST": host, "MLFLOW_PORT": port}  # whatever MLflow's own settings are
    # Not arguments, which every user of the machine can read.
    store = tracking_uri.store_uri()
    defaults = {**DEFAULTS, "MLFLOW_REGISTRY_STORE_URI": store}
    environment = defaults | os.environ | own | {"MLFLOW_BACKEND_STORE_URI": store}
    return subprocess.Popen(
        [sys.executable, "-m", SERVER],
        env=environment,
        stdin=subprocess.PIPE,  # its end tells the server that this process is gone
        start_new_session=True,
    )


def _answers(server: "subprocess.Popen[bytes]", host: str, port: int) -> bool:
    """Waits until the server answers a request; returns False if it ends before."""
    while server.poll() is None:
        connection = HTTPConnection(host, port, timeout=ANSWER_TIMEOUT_SECONDS)
        try:
            connection.request("GET", "/health")
            connection.getresponse()
        except (OSError, HTTPException):
            time.sleep(POLL_SECONDS)
        else:
            return True
        finally:
            connection.close()
    return False


def _stop(server: "subprocess.Popen[bytes]") -> None:
    """Ends the server and its processes; at once after a second Ctrl-C."""
    server.terminate()
    with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        server.wait(STOP_TIMEOUT_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _print_addresses(server: str, pages: Mapping[str, str]) -> None:
    experiments = f"{server}/#/experiments?{saved_views.MODE}"
    for name, page in {**pages, "All experiments": experiments}.items():
        print(f"{name}: {page}")
    print(
        f"{server} alone opens MLflow's GenAI page; `Model training` at its top left "
        "leads to the runs."
    )
    print(ASSISTANT, flush=True)


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
