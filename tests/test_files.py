"""Tests atomic writes and file locks."""

import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from svhn_sweep.files import create_atomically, file_lock, open_atomically, write_atomically


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("content", ["grün", "grün".encode()])
def test_a_write_replaces_the_content(tmp_path: Path, content: str | bytes, sync: bool) -> None:
    path = tmp_path / "file"
    for old in ("old", "", None):
        if old is not None:
            path.write_text(old)
        write_atomically(path, content, sync=sync)
        assert path.read_text(encoding="utf-8") == "grün"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with open_atomically(path) as file:
            file.write(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("timeout", [0, 0.1])
def test_a_lock_that_is_held_is_an_error_after_the_timeout(tmp_path: Path, timeout: float) -> None:
    path = tmp_path / "lock"
    with file_lock(path):
        start = time.monotonic()
        with pytest.raises(BlockingIOError), file_lock(path, timeout):
            pass
        assert timeout <= time.monotonic() - start < 5
    with file_lock(path, timeout=0):
        pass


@pytest.mark.parametrize("timeout", [None, 30])
def test_a_lock_is_taken_when_it_is_released(tmp_path: Path, timeout: float | None) -> None:
    path = tmp_path / "lock"
    order = []

    def wait() -> None:
        with file_lock(path, timeout):
            order.append("second")

    with file_lock(path):
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.1)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize("processes", [1, 4])
def test_of_several_processes_the_first_creates_the_file(tmp_path: Path, processes: int) -> None:
    script = (
        "import os, sqlite3, sys; from pathlib import Path; from "
        "svhn_sweep.files import create_atomically\n"
        "def create(path):\n"
        "    with sqlite3.connect(path) as database:\n"
        "        database.execute('create table owner as select ? as pid', [os.getpid()])\n"
        "    database.close()\n"
        "create_atomically(Path(sys.argv[1]), create)"
    )
    path = tmp_path / "new.db"
    started = [
        subprocess.Popen([sys.executable, "-c", script, str(path)]) for _ in range(processes)
    ]
    assert [process.wait() for process in started] == [0] * processes
    with closing(sqlite3.connect(path)) as database:
        ((owner,),) = database.execute("select pid from owner")
    assert owner in [process.pid for process in started]
    assert list(tmp_path.iterdir()) == [path]


def test_create_does_not_change_an_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "there.db"
    path.write_text("mine")
    create_atomically(path, lambda path: path.write_text("new"))
    assert path.read_text() == "mine"


def test_a_file_whose_creation_failed_does_not_exist(tmp_path: Path) -> None:
    def fails(path: Path) -> None:
        path.write_text("half")
        raise OSError("disk full")

    path = tmp_path / "new.db"
    with pytest.raises(OSError, match="disk full"):
        create_atomically(path, fails)
    assert not path.exists()
    create_atomically(path, lambda path: path.write_text("whole"))
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]
