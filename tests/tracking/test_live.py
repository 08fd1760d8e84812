import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from svhn_sweep.tracking import live, sending, store
from svhn_sweep.tracking.journal import Journal
from svhn_sweep.tracking.live import Live
from svhn_sweep.tracking.sending import Sent

SENT: Sent = {"run_id": "r", "experiment_id": "1", "position": 0}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The names of the folders that were sent, in order; nothing reaches MLflow."""
    names: list[str] = []
    monkeypatch.setattr(live, "POLL_SECONDS", 0.01)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://here")

    def send(folder: Path) -> Sent:
        names.append(folder.name)
        return SENT

    monkeypatch.setattr(sending, "send", send)
    return names


def ended(folder: Path, shown_in: str) -> Path:
    with Journal(folder) as journal:
        journal.start(name="a run", experiment="svhn", store=shown_in, tags={})
        journal.end("FINISHED", {})
    return folder


def until(holds: Callable[[], bool]) -> None:
    for _ in range(500):
        if holds():
            return
        time.sleep(0.01)
    raise TimeoutError("it did not happen in 5 s")


def test_it_sends_until_it_is_closed_and_once_more(sent: list[str], tmp_path: Path) -> None:
    following = Live(tmp_path / "own")
    until(lambda: len(sent) > 2)
    assert following.close(5)
    count = len(sent)
    time.sleep(0.1)
    assert len(sent) == count


def test_earlier_runs_of_this_store_are_sent_after_the_own_one(sent: list[str], tmp_path: Path) -> None:
    ended(tmp_path / "outputs" / "here", "http://here")
    ended(tmp_path / "outputs" / "elsewhere", "http://elsewhere")
    with Journal(tmp_path / "outputs" / "running") as journal:
        journal.start(name="a run", experiment="svhn", store="http://here", tags={})
        following = Live(tmp_path / "own", [tmp_path / "outputs"])
        until(lambda: "here" in sent)
        assert following.close(5)
    assert sent[0] == "own"
    assert set(sent) == {"own", "here"}


def test_a_bad_earlier_run_does_not_keep_this_one_from_mlflow(
    sent: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = sending.send

    def send(folder: Path) -> Sent:
        if folder.name == "bad":
            raise RuntimeError("bad")
        return good(folder)

    monkeypatch.setattr(sending, "send", send)
    for name in ("bad", "fine"):
        ended(tmp_path / "outputs" / name, "http://here")
    (tmp_path / "outputs" / "foreign").mkdir()
    (tmp_path / "outputs" / "foreign" / "journal.jsonl").write_text('{"not": "ours"}\n')
    following = Live(tmp_path / "own", [tmp_path / "outputs"])
    until(lambda: "fine" in sent)
    assert following.close(5)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("error", [ConnectionError("refused by http://me:secret@here"), TimeoutError()])
def test_a_dead_store_is_one_warning(
    sent: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    calls = []

    def send(folder: Path) -> Sent:
        calls.append(folder)
        raise error

    monkeypatch.setattr(sending, "send", send)
    following = Live(tmp_path / "own")
    until(lambda: len(calls) > 3)
    assert not following.close(5)
    told = capsys.readouterr().err
    assert told.count("svhn_sweep: MLflow at http://here cannot be told about this run") == 1
    assert store.reason(error) in told
    assert "secret" not in told


def test_a_store_that_comes_back_gets_everything(
    sent: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, calls = sending.send, []

    def send(folder: Path) -> Sent:
        calls.append(folder)
        if len(calls) < 3:
            raise ConnectionError("not yet")
        return good(folder)

    monkeypatch.setattr(sending, "send", send)
    following = Live(tmp_path / "own")
    until(lambda: bool(sent))
    assert following.close(5)


def test_a_store_that_hangs_is_left_behind(
    sent: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = threading.Event()

    def send(folder: Path) -> Sent:
        answer.wait()
        return SENT

    monkeypatch.setattr(sending, "send", send)
    following = Live(tmp_path / "own")
    started = time.monotonic()
    assert not following.close(0.2)
    assert time.monotonic() - started < 5
    assert "it does not answer" in capsys.readouterr().err
    answer.set()
