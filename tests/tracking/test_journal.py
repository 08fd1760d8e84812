from collections.abc import Iterator
from pathlib import Path

import pytest

from svhn_sweep.tracking.journal import JOURNAL, Event, Journal, folders, has_ended, read


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A run that has started."""
    with started(tmp_path) as journal:
        yield journal


def started(folder: Path) -> Journal:
    journal = Journal(folder)
    journal.start(name="a run", experiment="svhn", store="sqlite:///x", tags={"role": "baseline"})
    return journal


def events(folder: Path) -> list[Event]:
    return [event for event, _ in read(folder)]


def test_events_are_read_in_order(journal: Journal) -> None:
    journal.metrics({"val/accuracy": 0.5}, step=1)
    journal.metrics({"test/accuracy": 0.4})
    journal.artifact("config.yaml")
    journal.end("FINISHED", {"trial.state": "complete"})
    kinds = [event["kind"] for event in events(journal.folder)]
    assert kinds == ["start", "tags", "metrics", "metrics", "artifact", "tags", "end"]
    assert [event["step"] for event in events(journal.folder) if event["kind"] == "metrics"] == [1, 0]


def test_reading_goes_on_from_a_position(journal: Journal) -> None:
    *_, (_, position) = read(journal.folder)
    assert list(read(journal.folder, position)) == []
    journal.artifact("config.yaml")
    assert [event["kind"] for event, _ in read(journal.folder, position)] == ["artifact"]


def test_a_line_cut_by_a_crash_is_left_out_and_what_follows_is_read(tmp_path: Path) -> None:
    with started(tmp_path):
        pass
    whole = events(tmp_path)
    with (tmp_path / JOURNAL).open("a") as file:
        file.write('{"kind": "metr')
    assert events(tmp_path) == whole
    with Journal(tmp_path) as journal:
        journal.artifact("config.yaml")
    assert [event["kind"] for event in events(tmp_path)] == ["start", "tags", "artifact"]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with started(tmp_path), pytest.raises(BlockingIOError, match="unavailable"):
        Journal(tmp_path)
    with Journal(tmp_path):
        pass


def test_a_run_has_ended_when_it_says_so_or_its_process_is_gone(tmp_path: Path) -> None:
    with started(tmp_path):
        assert not has_ended(tmp_path)
    assert has_ended(tmp_path)
    assert events(tmp_path)[-1]["status"] == "KILLED"
    assert events(tmp_path)[-2]["values"]["trial.state"] == "interrupted"
    before = events(tmp_path)
    assert has_ended(tmp_path)
    assert events(tmp_path) == before  # said once


def test_folders_finds_started_runs(tmp_path: Path) -> None:
    for name in ("b/run", "a/run"):
        with started(tmp_path / name):
            pass
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / JOURNAL).touch()
    assert folders(tmp_path) == [tmp_path / "a/run", tmp_path / "b/run"]
    assert folders(tmp_path / "missing") == []
