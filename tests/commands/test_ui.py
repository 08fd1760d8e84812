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
from mlflow import MlflowClient

from svhn_sweep.commands.options import parse_ui
from svhn_sweep.commands.ui import ui
from svhn_sweep.errors import FailedError, UserError


def run(*options: str) -> None:
    parsed = parse_ui(options)
    ui(parsed.host, parsed.port)


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1", ""])
def test_an_invalid_port_is_refused(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("MLFLOW_PORT", port)
    message = (
        "the port, --port or MLFLOW_PORT, must be a number from 1 to 65535 "
        f"but is {re.escape(repr(port))}\\."
    )
    with pytest.raises(UserError, match=f"^{message}$"):
        run()


def test_a_port_in_use_is_an_error_that_names_it_and_a_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"^port {port} cannot be used on 127") as refused:
            run("--port", str(port))
    free = re.search(r": address already in use; --port (\d+) is free\.$", str(refused.value))
    assert free
    socket.create_server(("127.0.0.1", int(free[1]))).close()


def test_a_store_that_cannot_be_opened_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("mlflow.db").write_text("no database")
    with pytest.raises(FailedError, match=f"^MLflow cannot open sqlite:///{tmp_path}/mlflow.db: "):
        run("--port", "5999")


def test_an_option_names_another_host_whatever_mlflows_variables_are(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []
    environment = {**os.environ, "MLFLOW_PORT": "1", "MLFLOW_HOST": "192.0.2.1"}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(os, "execv", lambda path, arguments: started.append(arguments))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    run("--host", "0.0.0.0", "--port", port)
    assert started == [[sys.executable, "-m", "mlflow", "ui"]]
    assert (environment["MLFLOW_HOST"], environment["MLFLOW_PORT"]) == ("0.0.0.0", port)
    assert f"http://127.0.0.1:{port}/#/experiments" in capsys.readouterr().out


@pytest.mark.slow
def test_the_ui_listens_on_localhost_alone(folder: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "svhn_sweep", "ui", "--port", str(port)]
    environment = folder.environment | {"MLFLOW_PORT": "1", "MLFLOW_HOST": "192.0.2.1"}
    server = subprocess.Popen(
        command, cwd=folder.path, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        for _ in range(1800):
            if f":{port:04X} 00000000:0000 0A" in (table := Path("/proc/net/tcp").read_text()):
                break
            time.sleep(0.1)
        assert f" 0100007F:{port:04X} " in table  # as the kernel writes 127.0.0.1
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def test_with_a_tracking_server_only_its_address_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@mlflow.example:80/")
    run()
    shown = capsys.readouterr()
    assert not shown.err
    assert "http://mlflow.example:80/#/experiments?workflowType=machine_learning" in shown.out
    assert "secret" not in shown.out
