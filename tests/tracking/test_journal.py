import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from svhn_sweep.tracking.journal import (
    JOURNAL,
    Journal,
    JournalEvent,
    end_tags,
    finalize_if_dead,
    find_runs,
    history,
    is_meant_for,
    read,
)
from svhn_sweep.trial_status import TrialStatus


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A run that has started."""
    with started(tmp_path) as journal:
        yield journal


def started(folder: Path, **options: str) -> Journal:
    journal = Journal(folder)
    journal.start(
        name="a run", experiment="svhn", store="sqlite:///x", tags={"role": "baseline"}, **options
    )
    return journal


def events(folder: Path) -> list[JournalEvent]:
    return [event for event, _ in read(folder)]


def kinds(folder: Path) -> list[str]:
    return [event["kind"] for event in events(folder)]


def test_events_are_read_in_order(journal: Journal) -> None:
    journal.log_metrics({"val/accuracy": 0.5}, step=1)
    journal.log_metrics({"test/accuracy": 0.4})
    journal.log_artifact("config.yaml")
    journal.end(TrialStatus.complete)
    assert kinds(journal.folder) == ["start", "tags", "metrics", "metrics", "artifact", "end"]
    assert [event["step"] for event in events(journal.folder) if event["kind"] == "metrics"] == [
        1,
        0,
    ]


def test_reading_continues_from_an_offset(journal: Journal) -> None:
    *_, (_, offset) = read(journal.folder)
    assert list(read(journal.folder, offset)) == []
    journal.log_artifact("config.yaml")
    assert [event["kind"] for event, _ in read(journal.folder, offset)] == ["artifact"]


def test_a_line_cut_by_a_crash_is_left_out_and_what_follows_is_read(tmp_path: Path) -> None:
    with started(tmp_path):
        pass
    whole = events(tmp_path)
    with (tmp_path / JOURNAL).open("a") as file:
        file.write('{"kind": "metr')
    assert events(tmp_path) == whole
    with Journal(tmp_path) as journal:
        journal.log_artifact("config.yaml")
    assert kinds(tmp_path) == ["start", "tags", "artifact"]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with started(tmp_path), pytest.raises(BlockingIOError, match="unavailable"):
        Journal(tmp_path, timeout=0.1)
    with Journal(tmp_path):
        pass


def test_a_writer_waits_until_another_one_closes_the_journal(tmp_path: Path) -> None:
    writer = started(tmp_path)
    timer = threading.Timer(0.2, writer.close)
    timer.start()
    with Journal(tmp_path) as journal:
        journal.log_artifact("config.yaml")
    timer.join()
    assert kinds(tmp_path) == ["start", "tags", "artifact"]


def test_finalize_if_dead_leaves_a_folder_without_a_journal_alone(tmp_path: Path) -> None:
    assert not finalize_if_dead(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_finalize_if_dead_does_not_wait_for_a_running_process(journal: Journal) -> None:
    start = time.monotonic()
    assert not finalize_if_dead(journal.folder)
    assert time.monotonic() - start < 1


@pytest.mark.parametrize(
    ("sessions", "written", "state"),
    [  # how each process left the run; None: killed before it could write an end
        ([None], "start tags", None),
        ([None, None], "start tags tags", None),
        ([None, "complete"], "start tags tags end", "complete"),
        (["interrupted"], "start tags end", "interrupted"),
        (["interrupted", None], "start tags end resume tags", None),
        (["interrupted", None, None], "start tags end resume tags tags", None),
        (["interrupted", None, "complete"], "start tags end resume tags tags end", "complete"),
        (["interrupted", "complete"], "start tags end resume tags end", "complete"),
        (
            ["interrupted", "interrupted", "failed"],
            "start tags end resume tags end resume tags end",
            "failed",
        ),
    ],
)
def test_a_run_starts_once_and_goes_on_from_where_it_was_left(
    tmp_path: Path, sessions: list[str | None], written: str, state: str | None
) -> None:
    for session in sessions:
        with started(tmp_path) as journal:
            if session is not None:
                journal.end(TrialStatus(session))
    assert kinds(tmp_path) == written.split()
    assert end_tags(tmp_path) == (
        None if state is None else {"trial.state": state, "trial.reason": ""}
    )


def test_starting_again_in_one_process_is_starting_once(journal: Journal) -> None:
    journal.start(
        name="another name", experiment="another", store="sqlite:///y", tags={"role": "trial"}
    )
    first, *others = events(journal.folder)
    assert (first["name"], first["experiment"], first["store"]) == ("a run", "svhn", "sqlite:///x")
    assert [event["values"] for event in others] == [{"role": "baseline"}, {"role": "trial"}]


def test_events_after_the_end_leave_the_run_ended(journal: Journal) -> None:
    journal.end(TrialStatus.complete)
    journal.log_metrics({"delta_to_baseline": 0.01})
    journal.set_tags({"mlflow.note.content": "best"})
    assert end_tags(journal.folder) == {"trial.state": "complete", "trial.reason": ""}
    journal.close()
    with started(journal.folder):
        assert kinds(journal.folder)[-2:] == ["resume", "tags"]
        assert end_tags(journal.folder) is None


@pytest.mark.parametrize(("options", "parent"), [({}, None), ({"parent": ".."}, "..")])
def test_a_run_may_lie_within_another(
    tmp_path: Path, options: dict[str, str], parent: str | None
) -> None:
    with started(tmp_path, **options):
        assert events(tmp_path)[0].get("parent") == parent


@pytest.mark.parametrize("reopened", [False, True])
@pytest.mark.parametrize(
    ("again", "step", "written"),
    [
        ({"val/loss": 0.4, "val/accuracy": 0.5}, 1, None),
        ({"val/loss": 0.3}, 1, None),  # the first is the one that MLflow may have
        ({"val/loss": 0.4, "learning_rate": 0.1}, 1, {"learning_rate": 0.1}),
        ({"val/loss": 0.4}, 2, {"val/loss": 0.4}),
        ({"val/loss": 0.4}, 0, {"val/loss": 0.4}),
    ],
)
def test_a_metric_is_recorded_once_for_its_step(
    tmp_path: Path,
    again: dict[str, float],
    step: int,
    written: dict[str, float] | None,
    reopened: bool,
) -> None:
    first = {"val/loss": 0.4, "val/accuracy": 0.5}
    journal = started(tmp_path)
    journal.log_metrics(first, step=1)
    if reopened:
        journal.close()
        journal = Journal(tmp_path)
    with journal:
        journal.log_metrics(again, step=step)
    recorded = [
        (event["values"], event["step"]) for event in events(tmp_path) if event["kind"] == "metrics"
    ]
    assert recorded == [(first, 1), *([(written, step)] if written else [])]


@pytest.mark.parametrize("reopened", [False, True])
def test_a_parameter_is_recorded_once(tmp_path: Path, reopened: bool) -> None:
    """MLflow refuses another value."""
    journal = started(tmp_path)
    journal.log_params({"seed": 1, "data.path": "/here"})
    if reopened:
        journal.close()
        journal = Journal(tmp_path)
    with journal:
        journal.log_params({"seed": 1, "data.path": "/there"})
        journal.log_params({"seed": 1, "model.dropout": 0.5})
    recorded = [event["values"] for event in events(tmp_path) if event["kind"] == "params"]
    assert recorded == [{"seed": 1, "data.path": "/here"}, {"model.dropout": 0.5}]


def test_the_history_has_the_metrics_of_each_epoch(journal: Journal) -> None:
    assert history(journal.folder) == {}
    journal.log_metrics({"val/loss": 1, "val/accuracy": 0.5}, step=1)
    journal.log_metrics({"val/loss": 0.5}, step=2)
    journal.log_metrics({"val/accuracy": 0.7}, step=2)
    journal.log_metrics({"val/best_accuracy": 0.7})
    journal.end(TrialStatus.complete)
    journal.log_metrics({"delta_to_baseline": 0.1})
    assert history(journal.folder) == {
        1: {"val/loss": 1.0, "val/accuracy": 0.5},
        2: {"val/loss": 0.5, "val/accuracy": 0.7},
        0: {"val/best_accuracy": 0.7, "delta_to_baseline": 0.1},
    }


def test_a_run_is_over_when_it_recorded_its_end_or_its_process_is_gone(tmp_path: Path) -> None:
    with started(tmp_path):
        assert not finalize_if_dead(tmp_path)
    assert finalize_if_dead(tmp_path)
    assert events(tmp_path)[-1]["status"] == "KILLED"
    assert events(tmp_path)[-1]["values"] == {
        "trial.state": "interrupted",
        "trial.reason": "the process died",
    }
    before = events(tmp_path)
    assert finalize_if_dead(tmp_path)
    assert events(tmp_path) == before  # recorded once


@pytest.mark.parametrize("content", ["", '{"kind": "sta'])
def test_a_run_that_never_started_has_not_ended(tmp_path: Path, content: str) -> None:
    (tmp_path / JOURNAL).write_text(content)
    assert not finalize_if_dead(tmp_path)
    assert events(tmp_path) == []
    with started(tmp_path):
        assert kinds(tmp_path) == ["start", "tags"]


def test_the_run_of_a_killed_process_can_be_resumed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from "
        "svhn_sweep.tracking.journal import Journal\n"
        "with Journal(Path(sys.argv[1])) as journal:\n"
        "    journal.start(name='a run', experiment='svhn', store='', tags={})\n"
        "    journal.log_metrics({'val/loss': 0.4}, step=1)\n"
        "    print('there', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        assert not finalize_if_dead(tmp_path)
        process.kill()
    assert end_tags(tmp_path) is None
    assert finalize_if_dead(tmp_path)
    with started(tmp_path) as journal:
        assert not finalize_if_dead(tmp_path)
        journal.log_metrics({"val/loss": 0.3}, step=1)
        journal.log_metrics({"val/loss": 0.2}, step=2)
    assert history(tmp_path) == {1: {"val/loss": 0.4}, 2: {"val/loss": 0.2}}
    assert finalize_if_dead(tmp_path)
    assert kinds(tmp_path) == [
        "start",
        "tags",
        "metrics",
        "end",
        "resume",
        "tags",
        "metrics",
        "end",
    ]


def test_extend_adds_events_of_another_journal_of_the_run_once(tmp_path: Path) -> None:
    here = tmp_path / "here"
    there = tmp_path / "there"
    with started(here) as journal:
        there.mkdir()
        common = (here / JOURNAL).read_bytes()
        (there / JOURNAL).write_bytes(common)
        with Journal(there) as elsewhere:
            elsewhere.log_params({"seed": 7})
            elsewhere.log_metrics({"val/loss": 0.4}, step=1)
            elsewhere.end(TrialStatus.complete)
        journal.extend((there / JOURNAL).read_bytes()[len(common) :])
        assert journal.ended
        journal.log_params({"seed": 7})
        journal.log_metrics({"val/loss": 0.4}, step=1)
    assert (here / JOURNAL).read_bytes() == (there / JOURNAL).read_bytes()


def test_find_runs_returns_started_runs_in_order(tmp_path: Path) -> None:
    for name in ("b/run", "a/run"):
        with started(tmp_path / name):
            pass
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / JOURNAL).touch()
    assert find_runs(tmp_path) == [tmp_path / "a/run", tmp_path / "b/run"]
    assert find_runs(tmp_path / "missing") == []


@pytest.mark.parametrize(
    "content", ["", "no json", '{"kind": "sta', "[]\n", '{"not": "ours"}\n', '{"kind": "end"}\n']
)
def test_a_file_that_is_no_journal_is_no_run(tmp_path: Path, content: str) -> None:
    (tmp_path / JOURNAL).write_text(content)
    assert find_runs(tmp_path) == []
    assert not is_meant_for(tmp_path, "sqlite:///x")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_named_like_a_journal_is_no_run(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / JOURNAL)
    assert find_runs(tmp_path) == []


@pytest.mark.parametrize(
    ("store", "expected"), [("sqlite:///x", True), ("http://elsewhere", False)]
)
def test_a_run_is_for_the_store_it_was_started_with(
    journal: Journal, store: str, expected: bool
) -> None:
    assert is_meant_for(journal.folder, store) is expected
