"""Tests that folders are checked before anything is written, and what errors of files say."""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from svhn_sweep.config.error_messages import explain_os_error
from svhn_sweep.errors import ConfigError, FailedError, UserError
from svhn_sweep.output_folders import check_current_folder, check_folder, check_new_run
from svhn_sweep.sweep.study import study_storage
from svhn_sweep.tracking import tracking_uri, uploader
from svhn_sweep.tracking.journal import Journal


def is_a_file(path: Path) -> None:
    path.write_text("")


def is_a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


def has_what_an_early_end_leaves(path: Path) -> None:
    (path / ".hydra").mkdir(parents=True)
    for name in ("trial.log", "slurm.log"):
        (path / name).write_text("")


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, has_what_an_early_end_leaves])
def test_a_folder_that_is_new_or_empty_takes_a_run(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "x")
    before = list(tmp_path.rglob("*"))
    check_new_run("hydra.run.dir", tmp_path / "x")
    assert list(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("names", [["command.txt"], ["notes"], ["a", "b", "c", "d"]])
def test_a_folder_with_files_takes_no_run(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("mine")
    shown = "a, b, c and others" if len(names) > 3 else names[0]
    with pytest.raises(
        ConfigError, match=rf"must be a new or an empty folder but .* has {shown}\.$"
    ):
        check_new_run("hydra.run.dir", tmp_path)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("what?", "without ? but is '"),
        ("a%20b", "without %20 but is '"),
        ("${x}", "without ${ but is '"),
        ("a\nb", "of printable characters but is '"),
        (b"bad\xff", "of printable characters but is '"),
        ("{y} a#b%s&c=d;e:f@g it's grün ß 数", ""),
    ],
)
def test_databases_need_a_current_folder_that_an_address_can_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | bytes, problem: str
) -> None:
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    monkeypatch.chdir(folder)
    if problem:
        with pytest.raises(
            UserError, match=re.escape(f"the current folder's path must be {problem}")
        ):
            check_current_folder()
        return
    check_current_folder()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    optuna.create_study(storage=study_storage.connect(study_storage.storage_url(None)))
    with Journal(folder / "outputs" / folder.name) as journal:
        journal.start(name="a run", experiment="svhn", store="", tags={})
        (journal.folder / "a.txt").write_text("text")
        journal.log_artifact("a.txt")
    run = uploader.send(journal.folder)
    client = tracking_uri.connect()
    (tmp_path / "copy").mkdir()
    copy = client.download_artifacts(run["run_id"], "a.txt", str(tmp_path / "copy"))
    assert Path(copy).read_text() == "text"
    written = {"mlflow.db", "mlruns", "optuna.db", "outputs"}
    assert {path.name for path in folder.iterdir()} == written
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, "copy"}


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
