import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from svhn_sweep.tracking import sending, store
from svhn_sweep.tracking.journal import Journal

# MLflow's own: SQLAlchemy sessions that its store leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with its tables and nothing in them: MLflow takes 2 s to make one."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}")
    return path


@pytest.fixture
def client(tmp_path: Path, new_store: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A new store in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(new_store, tmp_path)
    return store.connect()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A finished run with one event of each kind."""
    folder = tmp_path / "outputs" / "run"
    journal = Journal(folder)
    journal.start(name="model2 seed 42", experiment="svhn", store="", tags={"role": "baseline"})
    journal.params({"training.learning_rate": 0.001, "training.augmentation.enabled": False})
    journal.dataset(name="digits.h5", digest="ab" * 32, source="/data/digits.h5")
    journal.metrics({"val/accuracy": 0.5, "train/accuracy": 0.6}, step=1)
    journal.metrics({"val/accuracy": 0.7, "train/accuracy": 0.8}, step=2)
    journal.metrics({"test/accuracy": 0.65})
    (folder / "figures").mkdir()
    (folder / "figures" / "curves.png").write_bytes(b"picture")
    journal.artifact("figures/curves.png")
    (folder / "model").mkdir()
    (folder / "model" / "MLmodel").write_text("flavors: {}")
    journal.model("model")
    journal.end("FINISHED", {"trial.state": "complete"})
    with journal:
        yield journal


def everything(client: MlflowClient, run_id: str) -> dict[str, object]:
    """What a person could see of a run."""
    run = client.get_run(run_id)
    return {
        "info": dict(run.info),
        "params": run.data.params,
        "tags": run.data.tags,
        "metrics": {
            key: [(metric.timestamp, metric.step, metric.value) for metric in client.get_metric_history(run_id, key)]
            for key in run.data.metrics
        },
        "artifacts": [file.path for folder in ("", "figures") for file in client.list_artifacts(run_id, folder)],
        "datasets": [(entry.dataset.name, entry.dataset.digest) for entry in run.inputs.dataset_inputs],
        "models": [output.model_id for output in run.outputs.model_outputs],
    }


def test_mlflow_shows_what_the_journal_says(client: MlflowClient, journal: Journal) -> None:
    run_id = sending.send(journal.folder)["run_id"]
    shown = everything(client, run_id)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "model2 seed 42"
    assert client.get_experiment(run.info.experiment_id).name == "svhn"
    assert shown["params"] == {"training.learning_rate": "0.001", "training.augmentation.enabled": "False"}
    assert run.data.tags["trial.state"] == "complete"
    assert shown["artifacts"] == ["figures", "figures/curves.png"]
    assert shown["datasets"] == [("digits.h5", ("ab" * 32)[:36])]
    assert [(step, value) for _, step, value in shown["metrics"]["val/accuracy"]] == [(1, 0.5), (2, 0.7)]  # type: ignore[index]
    assert [(step, value) for _, step, value in shown["metrics"]["test/accuracy"]] == [(0, 0.65)]  # type: ignore[index]


def test_times_are_the_journals_not_the_sendings(client: MlflowClient, journal: Journal) -> None:
    run = client.get_run(sending.send(journal.folder)["run_id"])
    times = [json.loads(line)["time"] for line in (journal.folder / "journal.jsonl").read_text().splitlines()]
    assert (run.info.start_time, run.info.end_time) == (times[0], times[-1])
    (first, _) = client.get_metric_history(run.info.run_id, "val/accuracy")
    assert first.timestamp in times


def test_sending_again_changes_nothing(client: MlflowClient, journal: Journal) -> None:
    sent = sending.send(journal.folder)
    before = everything(client, sent["run_id"])
    assert sending.send(journal.folder) == sent
    sending.forget(journal.folder)
    assert sending.send(journal.folder) == sent
    assert everything(client, sent["run_id"]) == before
    assert len(client.search_runs([sent["experiment_id"]])) == 1


@pytest.mark.parametrize("events_sent", range(1, 12))
def test_a_sender_that_died_after_any_event_is_continued(
    client: MlflowClient, journal: Journal, monkeypatch: pytest.MonkeyPatch, events_sent: int
) -> None:
    remember = sending._remember
    calls = []

    def dies(folder: Path, sent: sending.Sent) -> None:
        calls.append(sent)
        if len(calls) == events_sent:  # the event is in MLflow, but that is not remembered
            raise KeyboardInterrupt
        remember(folder, sent)

    monkeypatch.setattr(sending, "_remember", dies)
    with pytest.raises(KeyboardInterrupt):
        sending.send(journal.folder)
    monkeypatch.setattr(sending, "_remember", remember)
    sent = sending.send(journal.folder)
    assert len(client.search_runs([sent["experiment_id"]])) == 1
    shown = everything(client, sent["run_id"])
    assert len(shown["metrics"]["val/accuracy"]) == 2  # type: ignore[index]
    assert len(shown["models"]) == 1  # type: ignore[arg-type]


def test_each_store_is_sent_to_on_its_own(
    client: MlflowClient, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending.send(journal.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    assert sending.recall(journal.folder) is None
    other = sending.send(journal.folder)
    assert store.connect().get_run(other["run_id"]).info.status == "FINISHED"


def test_a_new_store_at_the_same_place_knows_nothing(
    client: MlflowClient, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sending.send(journal.folder)
    assert sending.is_known(journal.folder)
    client.delete_run(first["run_id"])  # in the UI's bin: the user's wish, it is not sent again
    assert sending.is_known(journal.folder)
    state = json.loads((journal.folder / sending.SENT).read_text())
    (entry,) = state.values()
    entry["run_id"] = "f" * 32
    (journal.folder / sending.SENT).write_text(json.dumps(state))
    assert not sending.is_known(journal.folder)


@pytest.mark.parametrize(
    ("uri", "redacted", "bare"),
    [
        ("http://user:secret@host:5000", "http://***@host:5000", "http://host:5000"),
        (
            "error at https://u:p@ss@host/x, sorry",
            "error at https://***@host/x, sorry",
            "error at https://host/x, sorry",
        ),
        ("postgresql+psycopg://me:pw@db/x", "postgresql+psycopg://***@db/x", "postgresql+psycopg://db/x"),
        ("sqlite:////tmp/a@b/mlflow.db", "sqlite:////tmp/a@b/mlflow.db", "sqlite:////tmp/a@b/mlflow.db"),
        ("http://host", "http://host", "http://host"),
    ],
)
def test_passwords_are_never_shown(uri: str, redacted: str, bare: str) -> None:
    assert store.redacted(uri) == redacted
    assert store.without_credentials(uri) == bare


def test_the_default_store_is_mlflows_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert store.store_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    assert store.store_uri() == "http://server"
