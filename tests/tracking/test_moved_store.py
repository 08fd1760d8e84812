"""Moves and copies a folder with a SQLite store, as users do with mv and cp."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from svhn_sweep.tracking import registry, tracking_uri, upload_state, uploader
from svhn_sweep.tracking.journal import Journal

# MLflow's own: SQLAlchemy sessions that its store leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

TAGS = {"data.sha256": "0", "study": "s"}


@pytest.fixture
def old(client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the current one, whose run has an artifact and the registered champion."""
    folder = tmp_path / "an old folder"
    folder.mkdir()
    shutil.move(tmp_path / "mlflow.db", folder)
    monkeypatch.chdir(folder)
    record(folder / "outputs" / "run")
    registry.register("digits", folder / "outputs" / "run", 0.5, TAGS)
    return folder


def record(folder: Path) -> None:
    """Records and uploads a run with an artifact and a model."""
    with Journal(folder) as journal:
        journal.start(name="run", experiment="svhn", store="", tags={})
        (folder / "notes.txt").write_text("notes")
        journal.log_artifact("notes.txt")
        (folder / "model").mkdir()
        (folder / "model" / "MLmodel").write_text("flavors: {}")
        journal.log_model("model")
    uploader.send(folder)


@pytest.mark.parametrize("relocate", [shutil.move, shutil.copytree])
def test_a_moved_or_copied_folder_has_all_artifacts_in_the_new_place(
    old: Path,
    tmp_path: Path,
    relocate: Callable[[Path, Path], object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    new = tmp_path / "a new folder"
    relocate(old, new)
    before = sorted(old.rglob("*"))
    monkeypatch.chdir(new)
    for _ in range(2):  # a second process finds nothing to do
        champion = registry.fetch("digits", tmp_path / "copy")
        assert champion is not None
        assert (champion.folder / "MLmodel").exists()
        tracking_uri._correct_addresses.cache_clear()
    assert capsys.readouterr().err.count(f"mlflow.db was moved or copied from {old}; ") == 1
    record(new / "outputs" / "another")
    client = tracking_uri.connect()
    state = upload_state.load(new / "outputs" / "another")
    assert state is not None
    for run in client.search_runs([state["experiment_id"]]):
        assert run.info.artifact_uri.startswith((new / "mlruns").as_uri() + "/")
        assert [entry.path for entry in client.list_artifacts(run.info.run_id)] == ["notes.txt"]
    for model in client.search_logged_models([state["experiment_id"]]):
        assert model.artifact_location.startswith((new / "mlruns").as_uri() + "/")
    assert sorted(old.rglob("*")) == before


def test_a_store_whose_artifacts_are_elsewhere_on_purpose_is_left_alone(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    (other / "mlruns" / "not a run of this store").mkdir(parents=True)
    shutil.move(old / "mlflow.db", other)
    monkeypatch.chdir(other)
    client = tracking_uri.connect()
    experiment = client.get_experiment_by_name("svhn")
    assert experiment is not None
    assert experiment.artifact_location == (old / "mlruns").as_uri()
    assert capsys.readouterr().err == ""


def test_a_link_to_the_folder_is_the_same_folder(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(old)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/link/mlflow.db")
    tracking_uri.connect()
    assert capsys.readouterr().err == ""
