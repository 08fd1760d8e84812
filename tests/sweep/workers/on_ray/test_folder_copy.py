"""A trial's folder and its copy on another node: what is copied, in which order."""

from contextlib import closing
from pathlib import Path

import pytest

from svhn_sweep.sweep.workers.ray.folder_copy import (
    FolderChanges,
    FolderCopy,
    FolderState,
    TrialFolder,
)
from svhn_sweep.tracking.journal import JOURNAL, Journal, end_tags, finalize_if_dead, history
from svhn_sweep.tracking.run_info import RunInfo
from svhn_sweep.trial_end import CHECKPOINT

RUN = RunInfo("trial 1", "svhn", "sqlite:///mlflow.db", {"role": "trial"})


def copy_of(folder: TrialFolder, path: Path) -> FolderCopy:
    path.mkdir()
    return FolderCopy(path, folder.state())


def test_after_each_epoch_the_folder_equals_its_copy(tmp_path: Path) -> None:
    here = tmp_path / "here"
    there = tmp_path / "there"
    with closing(TrialFolder(here, RUN)) as folder:
        copy = copy_of(folder, there)
        for epoch in (1, 2):
            (there / CHECKPOINT).write_bytes(b"weights" * epoch)
            (there / "trial.log").write_text("line\n" * epoch)
            with Journal(there) as journal:
                RUN.start(journal)
                journal.log_metrics({"val/accuracy": epoch / 10}, step=epoch)
            folder.apply(copy.changes())
            assert contents(here) == contents(there)
    assert history(here) == {1: {"val/accuracy": 0.1}, 2: {"val/accuracy": 0.2}}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_only_new_files_and_lines_are_copied(tmp_path: Path) -> None:
    with closing(TrialFolder(tmp_path / "here", RUN)) as folder:
        copy = copy_of(folder, tmp_path / "there")
    assert copy.changes() == FolderChanges({}, b"")
    (tmp_path / "there" / "figures").mkdir()
    (tmp_path / "there" / "figures" / "curves.png").write_bytes(b"a picture")
    assert copy.changes() == FolderChanges({"figures/curves.png": b"a picture"}, b"")
    assert copy.changes() == FolderChanges({}, b"")


def test_the_copy_of_a_resumed_trial_has_its_checkpoint_log_and_journal(tmp_path: Path) -> None:
    here = tmp_path / "here"
    with closing(TrialFolder(here, RUN)) as folder:
        assert folder.state().files == {}
    (here / CHECKPOINT).write_bytes(b"weights")
    (here / "trial.log").write_text("epoch 1\n")
    (here / "model_summary.txt").write_text("is written anew")
    with closing(TrialFolder(here, RUN)) as folder:
        state = folder.state()
        copy = copy_of(folder, tmp_path / "there")
    assert state == FolderState(
        (here / JOURNAL).read_bytes(), {CHECKPOINT: b"weights", "trial.log": b"epoch 1\n"}
    )
    assert contents(tmp_path / "there") == {JOURNAL: state.journal, **state.files}
    assert copy.changes().files == {}
    with (tmp_path / "there" / "trial.log").open("a") as log:
        log.write("epoch 2\n")
    assert copy.changes().files == {"trial.log": b"epoch 1\nepoch 2\n"}


def test_a_file_is_written_before_the_journal_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    existed: list[bool] = []
    with closing(TrialFolder(tmp_path / "here", RUN)) as folder:
        extend = Journal.extend

        def extend_after_check(journal: Journal, lines: bytes) -> None:
            existed.append((journal.folder / "config.yaml").exists())
            extend(journal, lines)

        monkeypatch.setattr(Journal, "extend", extend_after_check)
        folder.apply(
            FolderChanges(
                {"config.yaml": b"seed: 42\n"}, b'{"kind": "artifact", "path": "config.yaml"}\n'
            )
        )
    assert existed == [True]


def test_while_a_worker_trains_in_the_copy_the_run_does_not_count_as_dead(tmp_path: Path) -> None:
    with closing(TrialFolder(tmp_path, RUN)):
        assert not finalize_if_dead(tmp_path)
        with pytest.raises(BlockingIOError):
            Journal(tmp_path, timeout=0)
    assert finalize_if_dead(tmp_path)
    assert (end_tags(tmp_path) or {})["trial.state"] == "interrupted"
