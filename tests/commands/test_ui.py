"""Tests `python -m svhn_sweep ui`: its address, its end, and its errors."""

import fcntl
import os
import pty
import re
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from folder import Folder
from servers import free_port

from svhn_sweep.commands.options import parse_ui
from svhn_sweep.commands.ui import ASSISTANT, ui
from svhn_sweep.errors import UserError

Command = Callable[..., subprocess.CompletedProcess[str]]


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
    svhn_sweep: Command, tmp_path: Path
) -> None:
    (tmp_path / "mlflow.db").write_text("no database")
    result = svhn_sweep("ui", "--port", str(free_port()))
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"svhn_sweep: MLflow cannot open sqlite:///{tmp_path}/mlflow.db: ")


class Terminal:
    """A terminal whose foreground is `python -m svhn_sweep ui`.

    MLflow's own variables name another port and an address of another machine.

    Attributes:
        port: The port of the UI.
        process: The command.
    """

    def __init__(self, folder: Folder, *options: str) -> None:
        self.port = free_port()
        self.keyboard, terminal = pty.openpty()
        self.process = subprocess.Popen(
            folder.command("ui", "--port", str(self.port), *options),
            cwd=folder.path,
            env=folder.environment | {"MLFLOW_PORT": "1", "MLFLOW_HOST": "192.0.2.1"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(terminal, termios.TIOCSCTTY, 0),
        )
        os.close(terminal)

    def read(self, last: str = "") -> str:
        """Returns what is printed up to a text; without one up to the end of all processes."""
        shown = ""
        while not last or last not in shown:
            try:
                shown += os.read(self.keyboard, 4096).decode()
            except OSError:  # nobody has it open any more
                break
        assert last in shown
        return shown

    def servers(self) -> dict[int, list[str]]:
        """Returns the variables of each process of the server, by its id."""
        environments = {}
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended meanwhile
                environments[int(path.name)] = (path / "environ").read_text().split("\0")
        port = f"MLFLOW_PORT={self.port}"
        return {pid: variables for pid, variables in environments.items() if port in variables}

    def wait_for_server(self) -> None:
        for _ in range(600):
            if self.servers():
                return
            time.sleep(0.1)
        raise TimeoutError("no server starts")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pid in self.servers():
            os.kill(pid, signal.SIGKILL)
        os.close(self.keyboard)


@pytest.fixture
def open_terminal(folder: Folder) -> Iterator[Callable[..., Terminal]]:
    """Returns a function that starts `ui` with some options in a terminal."""
    opened: list[Terminal] = []

    def start(*options: str) -> Terminal:
        opened.append(Terminal(folder, *options))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "listens_on"),
    [
        ([], "0100007F"),  # as the kernel writes 127.0.0.1
        (["--host", "0.0.0.0"], "00000000"),
    ],
)
def test_the_ui_shows_its_address_when_it_answers_and_ctrl_c_ends_it(
    open_terminal: Callable[..., Terminal], options: list[str], listens_on: str
) -> None:
    terminal = open_terminal(*options)
    shown = terminal.read(ASSISTANT)
    assert shown.startswith("MLflow starts, in some 10 s")
    address = f"http://127.0.0.1:{terminal.port}"
    assert f"MLflow's UI answers at {address}\r\n" in shown
    assert f"All experiments: {address}/#/experiments?" in shown
    listening = f" {listens_on}:{terminal.port:04X} 00000000:0000 0A "
    assert listening in Path("/proc/net/tcp").read_text()
    servers = terminal.servers()
    assert len(servers) == 2
    assert all("MLFLOW_DISABLE_TELEMETRY=true" in variables for variables in servers.values())

    time.sleep(1)  # a Ctrl-C within Python's flush would let it print the same again
    os.write(terminal.keyboard, b"\x03")
    assert terminal.read().split() == ["^C"]
    assert terminal.process.wait(10) == 0
    assert terminal.servers() == {}


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 2, 8])
def test_ctrl_c_ends_a_ui_that_still_starts(
    open_terminal: Callable[..., Terminal], seconds: float
) -> None:
    terminal = open_terminal()
    terminal.wait_for_server()
    time.sleep(seconds)
    os.write(terminal.keyboard, b"\x03")
    assert "Traceback" not in terminal.read()
    assert terminal.process.wait(10) == 0
    assert terminal.servers() == {}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whoever_terminates_the_command_or_closes_its_terminal_ends_the_server(
    open_terminal: Callable[..., Terminal], number: signal.Signals
) -> None:
    terminal = open_terminal()
    terminal.wait_for_server()
    terminal.process.send_signal(number)
    assert terminal.process.wait(20) == 143
    assert terminal.servers() == {}


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 8])
def test_the_server_ends_if_the_command_is_killed(
    open_terminal: Callable[..., Terminal], seconds: float
) -> None:
    terminal = open_terminal()
    terminal.wait_for_server()
    time.sleep(seconds)
    terminal.process.kill()
    terminal.read()
    assert terminal.servers() == {}


@pytest.mark.slow
def test_a_server_that_ends_by_itself_ends_the_command_as_failed(
    open_terminal: Callable[..., Terminal],
) -> None:
    terminal = open_terminal()
    terminal.wait_for_server()
    for pid in terminal.servers():
        os.kill(pid, signal.SIGKILL)
    assert terminal.process.wait(20) == 1


def test_with_a_tracking_server_only_its_address_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@mlflow.example:80/")
    run()
    shown = capsys.readouterr()
    assert not shown.err
    assert "http://mlflow.example:80/#/experiments?workflowType=machine_learning" in shown.out
    assert "secret" not in shown.out
