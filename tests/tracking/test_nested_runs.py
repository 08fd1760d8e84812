"""Tests uploads of a study's run and of its trials' runs, which are nested in it."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient

from svhn_sweep.tracking import tracking_uri, upload_state, uploader
from svhn_sweep.tracking.journal import Journal
from svhn_sweep.trial_status import TrialStatus

# MLflow's own: SQLAlchemy sessions that its store leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The folder of a study's run with two trials in it and one a level below."""
    folder = tmp_path / "multirun" / "study"
    with Journal(folder) as journal:
        journal.start(name="study", experiment="svhn", store="", tags={"role": "sweep"})
    for path, parent in (("trial-0", ".."), ("trial-1", ".."), ("confirm-1/trial-0", "../..")):
        with Journal(folder / path) as journal:
            journal.start(
                name=path, experiment="svhn", store="", tags={"role": "trial"}, parent=parent
            )
            journal.end(TrialStatus.complete)
    return folder


TRIALS = ("trial-0", "trial-1", "confirm-1/trial-0")


@pytest.mark.parametrize(
    "order",
    [
        (".", *TRIALS),
        (*TRIALS, "."),
        ("trial-0", ".", "trial-1", "confirm-1/trial-0"),
        ("confirm-1/trial-0", "trial-1", ".", "trial-0"),
    ],
)
def test_trials_are_nested_in_their_study_whichever_is_sent_first(
    client: MlflowClient, study: Path, order: tuple[str, ...]
) -> None:
    sent = {path: uploader.send(study / path) for path in order}
    runs = {run.info.run_id: run for run in client.search_runs([sent["."]["experiment_id"]])}
    assert runs.keys() == {run["run_id"] for run in sent.values()}
    assert len(runs) == 1 + len(TRIALS)
    parents = [
        runs[sent[path]["run_id"]].data.tags.get("mlflow.parentRunId") for path in (".", *TRIALS)
    ]
    assert parents == [None, *[sent["."]["run_id"]] * len(TRIALS)]
    assert runs[sent["."]["run_id"]].data.tags["role"] == "sweep"
    assert runs[sent["."]["run_id"]].info.status == "RUNNING"


def test_an_upload_that_died_between_study_and_trial_creates_no_second_study(
    client: MlflowClient, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(folder: Path, sent: upload_state.UploadState) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(upload_state, "save", dies)
        with pytest.raises(KeyboardInterrupt):
            uploader.send(study / "trial-0")
    sent = [uploader.send(study / path) for path in (*TRIALS, ".")]
    assert len(client.search_runs([sent[0]["experiment_id"]])) == 1 + len(TRIALS)


def test_trials_and_their_study_can_be_sent_at_the_same_time(
    client: MlflowClient, study: Path
) -> None:
    with ThreadPoolExecutor() as pool:
        sent = list(
            pool.map(
                lambda path: uploader.send(study / path),
                ("trial-0", "trial-0", "trial-0", ".", "."),
            )
        )
    runs = client.search_runs([sent[0]["experiment_id"]])
    assert sorted(run.info.run_name for run in runs) == ["study", "trial-0"]


def test_after_the_database_was_replaced_trials_are_nested_in_their_study(
    client: MlflowClient, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = uploader.send(study)
    for path in (study, study / "trial-0"):
        (path / upload_state.FILE_NAME).write_text(
            json.dumps({f"sqlite:///{tmp_path}/other.db": lost})
        )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    (trial, other, parent) = (
        uploader.check_and_send(study / path) for path in ("trial-0", "trial-1", ".")
    )
    assert trial is not None
    assert other is not None
    assert parent is not None
    tags = {
        run.info.run_id: run.data.tags
        for run in tracking_uri.connect().search_runs([parent["experiment_id"]])
    }
    assert len(tags) == 3
    assert tags[parent["run_id"]]["role"] == "sweep"
    assert {tags[run["run_id"]]["mlflow.parentRunId"] for run in (trial, other)} == {
        parent["run_id"]
    }
