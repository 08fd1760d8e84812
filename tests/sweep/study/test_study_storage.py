"""Optuna's storage and the lock of a study, with real processes and real SQLite."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage

from svhn_sweep.errors import ConfigError, SweepInterruptedError
from svhn_sweep.sweep.study import study_storage
from svhn_sweep.sweep.study.study_storage import connect, single_driver, storage_url

StartDriver = Callable[..., "subprocess.Popen[str]"]

HOLD = """
import sys, time
from pathlib import Path
from svhn_sweep.sweep.study.study_storage import connect, single_driver, storage_url
folder = Path(sys.argv[1])
database = sys.argv[2] if len(sys.argv) > 2 else f"sqlite:///{folder.parent}/optuna.db"
with single_driver(connect(storage_url(database)), folder.name, folder):
    print("working", flush=True)
    time.sleep(600)
"""
CONNECT = """
import sys
from pathlib import Path
from svhn_sweep.sweep.study.study_storage import connect, storage_url
connect(storage_url(f"sqlite:///{sys.argv[1]}"))
"""


def sqlite(path: Path) -> RDBStorage:
    return connect(storage_url(f"sqlite:///{path}"))


@pytest.fixture
def start_driver() -> Iterator[StartDriver]:
    """`start_driver(folder)`: another process that holds the lock of that folder's study."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(folder)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline() == "working\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def hold_lock(tmp_path: Path) -> Iterator[Callable[[str], AbstractContextManager[None]]]:
    """`hold_lock("one")`: this process holds the lock of that study."""
    storage = sqlite(tmp_path / "optuna.db")
    yield lambda name: single_driver(storage, name, tmp_path / name)
    storage.engine.dispose()


HoldLock = Callable[[str], AbstractContextManager[None]]

# the lock


def test_a_second_driver_is_refused_with_the_pid_of_the_first(
    tmp_path: Path, start_driver: StartDriver, hold_lock: HoldLock
) -> None:
    for _ in range(2):  # the pid of a dead driver is overwritten
        first = start_driver(tmp_path / "one")
        message = f"another process ({first.pid}) already runs the study one: wait for it"
        with pytest.raises(ConfigError, match=re.escape(message)), hold_lock("one"):
            pass
        first.kill()
        first.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_study_is_unlocked_when_its_driver_dies(
    tmp_path: Path, start_driver: StartDriver, hold_lock: HoldLock, number: signal.Signals
) -> None:
    first = start_driver(tmp_path / "one")
    first.send_signal(number)
    first.wait()
    for _ in range(2):
        with hold_lock("one"):
            assert (tmp_path / ".one.lock").read_text() == str(os.getpid())


def test_two_drivers_can_work_on_two_studies(
    tmp_path: Path, start_driver: StartDriver, hold_lock: HoldLock
) -> None:
    start_driver(tmp_path / "one")
    with (
        hold_lock("two"),
        hold_lock("three"),
        pytest.raises(ConfigError, match="the study one"),
        hold_lock("one"),
    ):
        pass


# the database


def test_a_new_database_is_created_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "optuna.db"
    for _ in range(2):
        storage = sqlite(path)
        optuna.create_study(storage=storage, study_name="one", load_if_exists=True).ask()
        storage.engine.dispose()
    assert len(optuna.load_study(storage=storage, study_name="one").trials) == 2
    storage.engine.dispose()
    assert [file.name for file in path.parent.iterdir()] == ["optuna.db"]


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05])
def test_a_killed_creation_leaves_no_database(tmp_path: Path, delay: float) -> None:
    path = tmp_path / "optuna.db"
    process = subprocess.Popen([sys.executable, "-c", CONNECT, str(path)])
    while not list(tmp_path.iterdir()):  # until the first byte
        assert process.poll() is None
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not path.exists()
    storage = sqlite(path)
    assert optuna.create_study(storage=storage).ask().number == 0
    storage.engine.dispose()


def test_drivers_that_create_a_database_at_once_share_it(tmp_path: Path) -> None:
    path = tmp_path / "optuna.db"
    processes = [subprocess.Popen([sys.executable, "-c", CONNECT, str(path)]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert [file.name for file in tmp_path.iterdir()] == ["optuna.db"]
    sqlite(path).engine.dispose()


def test_a_locked_database_interrupts_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "optuna.db"
    sqlite(path).engine.dispose()
    monkeypatch.setattr(study_storage, "SQLITE_TIMEOUT", 0.1)
    message = f"{path} is locked by another program for more than 0.1 s; end that program, and "
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SweepInterruptedError, match=re.escape(message)):
            sqlite(path)
    sqlite(path).engine.dispose()


# its URL


@pytest.mark.parametrize(
    ("setting", "path"),
    [
        (None, "optuna.db"),
        ("sqlite:///mine.db", "mine.db"),
        ("sqlite:///deep/mine.db", "deep/mine.db"),
        ("sqlite:////abs/mine.db", "/abs/mine.db"),
        ("sqlite:///~/mine.db", "/home/me/mine.db"),
    ],
)
def test_sqlite_files_are_relative_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str | None, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert storage_url(setting).database == str(tmp_path / path)


@pytest.mark.parametrize(
    "setting", ["postgresql+psycopg://sweeper@host/optuna", "mysql+pymysql://sweeper@host/optuna"]
)
def test_the_url_of_any_database_is_accepted(setting: str) -> None:
    assert storage_url(setting).render_as_string() == setting


@pytest.mark.parametrize(
    "secret",
    [
        "sweeper:secret@host/optuna",
        "sweeper@host/optuna?password=secret",
        "sweeper@host/optuna?ssl=1&passwd=secret",
    ],
)
def test_a_password_in_the_url_is_refused_and_not_printed(secret: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^hydra\.sweeper\.storage must not hold a password; "
    ) as caught:
        storage_url(f"postgresql+psycopg://{secret}")
    assert "secret" not in str(caught.value)


def test_an_unreachable_server_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPASSWORD", "secret")
    with pytest.raises(
        ConfigError, match=r"but postgresql\+psycopg://sweeper@127.0.0.1:1/optuna is not: "
    ) as caught:
        connect(storage_url("postgresql+psycopg://sweeper@127.0.0.1:1/optuna"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "scheme"),
    [
        ("optuna.db", "optuna.db"),
        ("", ""),
        ("sqlite:///", "sqlite"),
        ("sqlite://", "sqlite"),
        ("sqlite://optuna.db", "sqlite"),
        ("postgresql+psycopg://host", "postgresql+psycopg"),
        ("postgresql://user:secret@host:5x/db", "postgresql"),
        ("postgresql//user:secret@host/db", "postgresql//user"),
        ("secret@host/db", "***"),
    ],
)
def test_a_url_without_a_database_is_refused(setting: str, scheme: str) -> None:
    message = (
        "hydra.sweeper.storage must be sqlite:///FILE or the address of another database, such as "
        f"postgresql+psycopg://USER@HOST/DATABASE, but begins with {scheme!r}."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        storage_url(setting)


@pytest.mark.parametrize("name", ["text", "a folder", "a pipe", "a link", "missing/proc/x"])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "a pipe")
    (tmp_path / "a link").symlink_to("nowhere")
    (tmp_path / "text").write_text("no database")
    (tmp_path / "a folder").mkdir()
    (tmp_path / "missing").write_text("a file where a folder should be")
    with pytest.raises(
        ConfigError,
        match=r"^hydra\.sweeper\.storage must be a database of Optuna's but .* is not: ",
    ):
        sqlite(tmp_path / name)
