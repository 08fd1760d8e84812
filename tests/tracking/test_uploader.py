import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from PIL import Image
from sqlalchemy import event
from sqlalchemy.engine import Engine

from svhn_sweep.tracking import markdown, saved_views, tracking_uri, upload_state, uploader
from svhn_sweep.tracking.journal import Journal, finalize_if_dead
from svhn_sweep.trial_status import TrialStatus

# MLflow's own: SQLAlchemy sessions that its store leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A finished run with one event of each kind."""
    folder = tmp_path / "outputs" / "run"
    journal = Journal(folder)
    journal.start(name="model2 seed 42", experiment="svhn", store="", tags={"role": "baseline"})
    journal.log_params({"training.learning_rate": 0.001, "training.augmentation.enabled": False})
    journal.log_dataset(name="digits.h5", digest="ab" * 32, source="/data/digits.h5")
    journal.log_metrics({"val/accuracy": 0.5, "train/accuracy": 0.6}, step=1)
    journal.log_metrics({"val/accuracy": 0.7, "train/accuracy": 0.8}, step=2)
    journal.log_metrics({"test/accuracy": 0.65})
    (folder / "figures").mkdir()
    Image.new("L", (8, 8)).save(folder / "figures" / "curves.png")
    journal.log_artifact("figures/curves.png")
    journal.log_image("figures/curves.png", saved_views.CONFUSION_MATRIX)
    journal.set_description(
        f"[all]({markdown.EXPERIMENT_ID}) {markdown.picture('figures/curves.png')}"
    )
    journal.set_view("board", "The board", "{}")
    (folder / "model").mkdir()
    (folder / "model" / "MLmodel").write_text("flavors: {}")
    journal.log_model("model")
    journal.end(TrialStatus.complete)
    with journal:
        yield journal


def run_content(client: MlflowClient, run_id: str) -> dict[str, object]:
    """What a person could see of a run."""
    run = client.get_run(run_id)
    return {
        "info": dict(run.info),
        "params": run.data.params,
        "tags": run.data.tags,
        "metrics": {
            key: [
                (metric.timestamp, metric.step, metric.value)
                for metric in client.get_metric_history(run_id, key)
            ]
            for key in run.data.metrics
        },
        "artifacts": [
            file.path
            for folder in ("", "figures")
            for file in client.list_artifacts(run_id, folder)
        ],
        "datasets": [
            (entry.dataset.name, entry.dataset.digest) for entry in run.inputs.dataset_inputs
        ],
        "models": [output.model_id for output in run.outputs.model_outputs],
    }


def test_of_several_values_at_a_step_mlflow_has_the_last_one(
    client: MlflowClient, journal: Journal
) -> None:
    uploader.send(journal.folder)
    for value in (0.7, 0.1, 0.4):
        time.sleep(0.002)  # a value's time is in milliseconds
        journal.log_metrics({"test/accuracy": value}, replace=True)
    run = client.get_run(uploader.send(journal.folder)["run_id"])
    assert run.data.metrics["test/accuracy"] == 0.4


def test_mlflow_has_what_the_journal_has(client: MlflowClient, journal: Journal) -> None:
    run_id = uploader.send(journal.folder)["run_id"]
    content = run_content(client, run_id)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "model2 seed 42"
    assert client.get_experiment(run.info.experiment_id).name == "svhn"
    assert content["params"] == {
        "training.learning_rate": "0.001",
        "training.augmentation.enabled": "False",
    }
    assert run.data.tags["trial.state"] == "complete"
    assert content["artifacts"] == ["figures", "images", "figures/curves.png"]
    assert content["datasets"] == [("digits.h5", ("ab" * 32)[:36])]
    accuracies = content["metrics"]["val/accuracy"]  # type: ignore[index]
    assert [(step, value) for _, step, value in accuracies] == [(1, 0.5), (2, 0.7)]
    assert [(step, value) for _, step, value in content["metrics"]["test/accuracy"]] == [(0, 0.65)]  # type: ignore[index]


def test_times_are_those_of_the_events(client: MlflowClient, journal: Journal) -> None:
    run = client.get_run(uploader.send(journal.folder)["run_id"])
    times = [
        json.loads(line)["time"]
        for line in (journal.folder / "journal.jsonl").read_text().splitlines()
    ]
    assert (run.info.start_time, run.info.end_time) == (times[0], times[-1])
    (first, _) = client.get_metric_history(run.info.run_id, "val/accuracy")
    assert first.timestamp in times


def test_sending_again_changes_nothing(client: MlflowClient, journal: Journal) -> None:
    sent = uploader.send(journal.folder)
    before = run_content(client, sent["run_id"])
    assert uploader.send(journal.folder) == sent
    (journal.folder / upload_state.FILE_NAME).write_text("torn by a cra")
    assert uploader.send(journal.folder) == sent
    assert run_content(client, sent["run_id"]) == before
    assert len(client.search_runs([sent["experiment_id"]])) == 1


@pytest.mark.parametrize("events_sent", range(1, 11))
def test_an_upload_that_died_after_any_event_is_continued(
    client: MlflowClient, journal: Journal, monkeypatch: pytest.MonkeyPatch, events_sent: int
) -> None:
    save = upload_state.save
    calls = []

    def dies(folder: Path, sent: upload_state.UploadState) -> None:
        calls.append(sent)
        if len(calls) == events_sent:  # the event is in MLflow, but that is not stored
            raise KeyboardInterrupt
        save(folder, sent)

    monkeypatch.setattr(upload_state, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        uploader.send(journal.folder)
    monkeypatch.setattr(upload_state, "save", save)
    sent = uploader.send(journal.folder)
    assert len(client.search_runs([sent["experiment_id"]])) == 1
    content = run_content(client, sent["run_id"])
    assert len(content["metrics"]["val/accuracy"]) == 2  # type: ignore[index]
    assert len(content["models"]) == 1  # type: ignore[arg-type]


def test_each_store_has_its_own_upload_state(
    client: MlflowClient, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploader.send(journal.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    assert upload_state.load(journal.folder) is None
    other = uploader.send(journal.folder)
    assert tracking_uri.connect().get_run(other["run_id"]).info.status == "FINISHED"


def test_after_the_database_was_replaced_a_run_is_sent_again(
    client: MlflowClient, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = uploader.send(journal.folder)
    (tmp_path / "mlflow.db").unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    state = (journal.folder / upload_state.FILE_NAME).read_text()
    (journal.folder / upload_state.FILE_NAME).write_text(state.replace("/mlflow.db", "/other.db"))
    second = uploader.check_and_send(journal.folder)
    assert second is not None
    assert second["run_id"] != first["run_id"]
    assert tracking_uri.connect().get_run(second["run_id"]).info.status == "FINISHED"


def test_consecutive_events_are_sent_in_one_call(
    client: MlflowClient, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    log_batch = MlflowClient.log_batch

    def counted(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        return log_batch(*arguments, **options)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    for epoch in range(3, 100):
        journal.log_metrics({"val/accuracy": epoch / 100}, step=epoch)
    sent = uploader.send(journal.folder)
    assert (
        calls == 6
    )  # tags with params; three metrics; the description; the end; 97 metrics in two
    assert len(client.get_metric_history(sent["run_id"], "val/accuracy")) == 99


@pytest.fixture
def impatient_sqlite() -> Iterator[None]:
    """Lets SQLite wait 0.1 s for a lock; MLflow sets 20 s in every session."""

    def shorten(
        connection: object, cursor: object, statement: str, parameters: object, *others: object
    ) -> tuple[str, object]:
        return statement.replace("busy_timeout = 20000", "busy_timeout = 100"), parameters

    event.listen(Engine, "before_cursor_execute", shorten, retval=True)
    yield
    event.remove(Engine, "before_cursor_execute", shorten)


def test_a_locked_database_is_an_error_without_output(
    client: MlflowClient,
    journal: Journal,
    impatient_sqlite: None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with closing(sqlite3.connect("mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(MlflowException, match="database is locked"):
            uploader.send(journal.folder)
        other.execute("COMMIT")
    assert capfd.readouterr() == ("", "")
    assert uploader.send(journal.folder)["position"] > 0


def test_a_deleted_experiment_is_an_error_with_the_command_that_restores_it(
    client: MlflowClient, journal: Journal
) -> None:
    sent = uploader.send(journal.folder)
    client.delete_experiment(sent["experiment_id"])
    (journal.folder / upload_state.FILE_NAME).unlink()
    with pytest.raises(
        LookupError, match=r"the experiment svhn was deleted there; `mlflow experiments restore "
    ):
        uploader.send(journal.folder)


def test_a_run_that_the_user_deleted_is_not_sent_again(
    client: MlflowClient, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = uploader.send(journal.folder)
    client.delete_run(first["run_id"])
    assert uploader.check_and_send(journal.folder) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    assert uploader.check_and_send(journal.folder) is not None
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert uploader.check_and_send(journal.folder) is None
    assert client.search_runs([first["experiment_id"]]) == []


def test_the_model_is_complete_and_ready(
    client: MlflowClient, journal: Journal, tmp_path: Path
) -> None:
    sent = uploader.send(journal.folder)
    (model,) = client.search_logged_models([sent["experiment_id"]])
    assert model.status == "READY"
    assert model.source_run_id == sent["run_id"]
    copy = mlflow.artifacts.download_artifacts(
        f"{model.artifact_location}/MLmodel", dst_path=str(tmp_path / "copy")
    )
    assert Path(copy).read_text() == "flavors: {}"


def test_artifacts_are_in_mlflows_default_folder(
    client: MlflowClient, journal: Journal, tmp_path: Path
) -> None:
    run = client.get_run(uploader.send(journal.folder)["run_id"])
    assert run.info.artifact_uri.startswith((tmp_path / "mlruns").as_uri())
    (dataset,) = run.inputs.dataset_inputs
    assert [(tag.key, tag.value) for tag in dataset.tags] == [("mlflow.data.context", "training")]


def test_a_removed_artifact_is_skipped(client: MlflowClient, journal: Journal) -> None:
    (journal.folder / "figures" / "curves.png").unlink()
    run = client.get_run(uploader.send(journal.folder)["run_id"])
    assert run.info.status == "FINISHED"


@pytest.mark.parametrize("left", [b"", b"half a pic"])
def test_a_damaged_picture_is_skipped(client: MlflowClient, journal: Journal, left: bytes) -> None:
    (journal.folder / "figures" / "curves.png").write_bytes(left)
    run = client.get_run(uploader.send(journal.folder)["run_id"])
    assert run.info.status == "FINISHED"
    assert not client.list_artifacts(run.info.run_id, "images")


CALLS = ("create_run", "log_batch", "log_inputs", "log_artifact", "log_image", "set_experiment_tag")


MODEL_CALLS = ("create_logged_model", "log_outputs", "log_model_artifacts", "finalize_logged_model")


@pytest.mark.parametrize("name", [*CALLS, *MODEL_CALLS, "set_tag", "set_terminated"])
@pytest.mark.parametrize("answered", [False, True])
def test_an_upload_that_failed_at_any_call_can_be_repeated(
    client: MlflowClient,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    answered: bool,
) -> None:
    """`answered`: the store carried out the request, and only its answer was lost."""
    real = getattr(MlflowClient, name)

    def fails(self: MlflowClient, *arguments: object, **options: object) -> None:
        monkeypatch.setattr(MlflowClient, name, real)
        if answered:
            real(self, *arguments, **options)
        raise ConnectionError("lost")

    monkeypatch.setattr(MlflowClient, name, fails)
    with pytest.raises(ConnectionError, match="lost"):
        uploader.send(journal.folder)
    sent = uploader.send(journal.folder)
    assert client.get_run(sent["run_id"]).info.status == "FINISHED"
    assert len(client.search_runs([sent["experiment_id"]])) == 1
    assert len(client.search_logged_models([sent["experiment_id"]])) == 1
    assert len(run_content(client, sent["run_id"])["models"]) == 1  # type: ignore[arg-type]


def test_simultaneous_uploads_create_one_run(client: MlflowClient, journal: Journal) -> None:
    script = (
        "import sys; from svhn_sweep.tracking.uploader import send; "
        "print(send(__import__('pathlib').Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", script, str(journal.folder)]
    senders = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(sender.communicate()[1], sender.returncode) for sender in senders] == [("", 0)] * 2
    experiment = client.get_experiment_by_name("svhn")
    assert len(client.search_runs([experiment.experiment_id])) == 1
    assert len(client.search_logged_models([experiment.experiment_id])) == 1


def test_an_experiment_that_another_process_creates_meanwhile_is_used(
    client: MlflowClient, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MlflowClient.create_experiment

    def later(self: MlflowClient, *arguments: object) -> None:
        real(self, *arguments)  # as another process does in the same moment
        real(self, *arguments)

    monkeypatch.setattr(MlflowClient, "create_experiment", later)
    uploader.send(journal.folder)
    assert len(client.search_runs([client.get_experiment_by_name("svhn").experiment_id])) == 1


def interrupted(folder: Path, *, killed: bool = False) -> None:
    """A run that came to its second epoch."""
    with Journal(folder) as journal:
        record_epochs(journal, "/here/digits.h5", epochs=2)
        if not killed:
            journal.end(TrialStatus.interrupted, "Ctrl-C")


def continued(folder: Path) -> None:
    """The rest of it, which repeats the second epoch; the data lie elsewhere by now."""
    with Journal(folder) as journal:
        record_epochs(journal, "/there/digits.h5", epochs=3)
        journal.log_metrics({"val/best_accuracy": 0.3})
        journal.end(TrialStatus.complete)


def record_epochs(journal: Journal, path: str, epochs: int) -> None:
    journal.start(name="trial 1", experiment="svhn", store="", tags={"trial.state": "running"})
    journal.log_dataset(name="digits.h5", digest="ab" * 32, source=path)
    journal.log_params({"seed": 1, "data.path": path})
    for epoch in range(2 if path.startswith("/there") else 1, epochs + 1):
        journal.log_metrics({"val/accuracy": epoch / 10}, step=epoch)


@pytest.mark.parametrize(
    "sent_after", [(), ("start",), ("stop",), ("restart",), ("start", "stop", "restart")]
)
@pytest.mark.parametrize("killed", [False, True])
def test_an_interrupted_run_is_resumed_as_the_same_run(
    client: MlflowClient, tmp_path: Path, sent_after: tuple[str, ...], killed: bool
) -> None:
    """`killed`: by what leaves no time to write an end."""
    folder = tmp_path / "run"
    sent = []
    with Journal(folder) as journal:
        record_epochs(journal, "/here/digits.h5", epochs=1)
        if "start" in sent_after:
            sent.append(uploader.send(folder)["run_id"])
    interrupted(folder, killed=killed)
    assert finalize_if_dead(folder)
    if "stop" in sent_after:
        sent.append(uploader.send(folder)["run_id"])
        run = client.get_run(sent[-1])
        assert (run.info.status, run.data.tags["trial.state"]) == ("KILLED", "interrupted")
    with Journal(folder) as journal:
        record_epochs(journal, "/there/digits.h5", epochs=2)
    if "restart" in sent_after:
        sent.append(uploader.send(folder)["run_id"])
        run = client.get_run(sent[-1])
        assert (run.info.status, run.data.tags["trial.state"]) == ("RUNNING", "running")
    continued(folder)
    sent.append(uploader.send(folder)["run_id"])
    assert len(set(sent)) == 1
    content = run_content(client, sent[0])
    run = client.get_run(sent[0])
    assert len(client.search_runs([run.info.experiment_id])) == 1
    assert (run.info.status, run.data.tags["trial.state"], run.data.tags["trial.reason"]) == (
        "FINISHED",
        "complete",
        "",
    )
    assert run.data.params == {"seed": "1", "data.path": "/here/digits.h5"}
    accuracies = content["metrics"]["val/accuracy"]  # type: ignore[index]
    assert [(step, value) for _, step, value in accuracies] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert len(content["metrics"]["val/best_accuracy"]) == 1  # type: ignore[index]
    assert content["datasets"] == [("digits.h5", ("ab" * 32)[:36])]
    last = json.loads((folder / "journal.jsonl").read_text().splitlines()[-1])
    assert run.info.end_time == last["time"]


def test_all_of_a_resumed_run_may_be_sent_again(client: MlflowClient, tmp_path: Path) -> None:
    interrupted(tmp_path / "run")
    continued(tmp_path / "run")
    sent = uploader.send(tmp_path / "run")
    before = run_content(client, sent["run_id"])
    (tmp_path / "run" / upload_state.FILE_NAME).unlink()
    assert uploader.send(tmp_path / "run") == sent
    assert run_content(client, sent["run_id"]) == before


def test_events_after_the_end_are_sent(client: MlflowClient, journal: Journal) -> None:
    run_id = uploader.send(journal.folder)["run_id"]
    before = client.get_run(run_id).info
    journal.log_metrics({"delta_to_baseline": 0.02})
    uploader.send(journal.folder)
    run = client.get_run(run_id)
    assert run.data.metrics["delta_to_baseline"] == 0.02
    assert (run.info.status, run.info.end_time) == ("FINISHED", before.end_time)
