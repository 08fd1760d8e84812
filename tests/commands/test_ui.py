"""Tests `python -m svhn_sweep ui`: the address that it listens on, and its errors."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from folder import Folder


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1", ""])
def test_an_invalid_port_is_refused(folder: Folder, port: str) -> None:
    result = folder.run("ui", MLFLOW_PORT=port)
    assert result.returncode == 2
    assert result.stderr == (
        "svhn_sweep: the port, --port or MLFLOW_PORT, must be a number from 1 to 65535 "
        f"but is {port!r}.\n"
    )


def test_a_port_in_use_is_an_error_that_names_it_and_a_free_one(folder: Folder) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = folder.run("ui", MLFLOW_PORT=str(port))
    assert result.returncode == 2
    free = re.fullmatch(
        f"svhn_sweep: port {port} cannot be used on 127.0.0.1: address already in use; "
        r"--port (\d+) is free\.\n",
        result.stderr,
    )
    assert free
    socket.create_server(("127.0.0.1", int(free[1]))).close()


def test_a_store_that_cannot_be_opened_is_an_error_that_names_it(folder: Folder) -> None:
    (folder.path / "mlflow.db").write_text("no database")
    result = folder.run("ui", MLFLOW_PORT="5999")
    assert result.returncode == 1
    assert result.stderr.startswith(
        f"svhn_sweep: MLflow cannot open sqlite:///{folder.path / 'mlflow.db'}: "
    )
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "address"),
    [([], "0100007F"), (["--host", "0.0.0.0"], "00000000")],  # as the kernel writes them
)
def test_the_ui_listens_on_localhost_unless_an_option_names_another_host(
    folder: Folder, options: list[str], address: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "svhn_sweep", "ui", "--port", str(port), *options]
    environment = folder.environment | {"MLFLOW_PORT": "1", "MLFLOW_HOST": "192.0.2.1"}
    server = subprocess.Popen(
        command, cwd=folder.path, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        listening = f"{address}:{port:04X}"
        for _ in range(1800):
            if f":{port:04X} 00000000:0000 0A" in (table := Path("/proc/net/tcp").read_text()):
                break
            time.sleep(0.1)
        assert f" {listening} " in table
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def test_with_a_tracking_server_only_its_address_is_printed(folder: Folder) -> None:
    result = folder.run("ui", MLFLOW_TRACKING_URI="http://me:secret@mlflow.example:80/")
    assert (result.returncode, result.stderr) == (0, "")
    assert "http://mlflow.example:80/#/experiments?workflowType=machine_learning" in result.stdout
    assert "secret" not in result.stdout
