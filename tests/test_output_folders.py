"""Tests that folders are checked before anything is written, and what errors of files say."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from svhn_sweep.errors import ConfigError, FailedError, UserError
from svhn_sweep.output_folders import check_folder, check_new_run, explain_os_error


def is_a_file(path: Path) -> None:
    path.write_text("")


def is_a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir])
def test_a_folder_that_is_new_or_empty_takes_a_run(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "x")
    before = list(tmp_path.rglob("*"))
    check_new_run("hydra.run.dir", tmp_path / "x")
    assert list(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("below", ["", "a/b"])
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (is_a_file, "a file"),
        (is_a_link_to_nothing, "a link to nothing"),
        (os.mkfifo, "neither a file nor a folder"),
    ],
)
def test_something_else_in_a_folders_place_is_refused(
    tmp_path: Path, make: Callable[[Path], None], what: str, below: str
) -> None:
    make(tmp_path / "x")
    with pytest.raises(ConfigError, match=f"^KEY must be a folder but {tmp_path}/x is {what}.$"):
        check_folder("KEY", tmp_path / "x" / below)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (Path.mkdir, "a folder"),
        (is_a_link_to_nothing, "a link to nothing"),
        (os.mkfifo, "neither a file nor a folder"),
    ],
)
def test_something_else_in_a_files_place_is_refused(
    tmp_path: Path, make: Callable[[Path], None], what: str
) -> None:
    make(tmp_path / "log")
    with pytest.raises(ConfigError, match=f"^{tmp_path}/log must be a file but is {what}; move"):
        check_folder("KEY", tmp_path, ["log"])


@pytest.mark.parametrize(("name", "size"), [("x" * 300, 300), ("ä" * 200, 400)])
def test_a_name_that_no_file_system_takes_is_refused(tmp_path: Path, name: str, size: int) -> None:
    with pytest.raises(ConfigError, match=rf"at most 255 bytes, but {name[:20]}\.\.\. has {size}"):
        check_folder("KEY", tmp_path / name / "x")


def test_a_folder_that_cannot_be_written_into_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tests may run as root, who may write into any folder.
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(ConfigError, match=f"KEY must be a folder but {tmp_path} cannot be written"):
        check_folder("KEY", tmp_path / "x")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EACCES, UserError),
        (errno.ENAMETOOLONG, UserError),
        (errno.EROFS, UserError),
        (errno.ENOSPC, FailedError),
        (errno.EIO, FailedError),
    ],
)
def test_an_error_of_a_file_is_one_sentence(number: int, expected: type[Exception]) -> None:
    explained = explain_os_error(OSError(number, os.strerror(number), "a/b"))
    assert isinstance(explained, expected)
    assert str(explained) == f"a/b cannot be used: {os.strerror(number)}."


def test_an_error_that_names_no_file_is_unexpected() -> None:
    error = ConnectionResetError(errno.ECONNRESET, "reset")
    assert explain_os_error(error) is error
