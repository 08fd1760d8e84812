import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from PIL import Image

from svhn_sweep.errors import ConfigError
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
    journal.params({"training.learning_rate": 0.001, "training.augmentation.enabled": False})
    journal.dataset(name="digits.h5", digest="ab" * 32, source="/data/digits.h5")
    journal.metrics({"val/accuracy": 0.5, "train/accuracy": 0.6}, step=1)
    journal.metrics({"val/accuracy": 0.7, "train/accuracy": 0.8}, step=2)
    journal.metrics({"test/accuracy": 0.65})
    (folder / "figures").mkdir()
    Image.new("L", (8, 8)).save(folder / "figures" / "curves.png")
    journal.artifact("figures/curves.png")
    journal.image("figures/curves.png", saved_views.MATRIX)
    journal.set_note(f"[all]({markdown.EXPERIMENT_ID}) {markdown.picture('figures/curves.png')}")
    journal.view("board", "The board", "{}")
    (folder / "model").mkdir()
    (folder / "model" / "MLmodel").write_text("flavors: {}")
    journal.model("model")
    journal.end(TrialStatus.complete)
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


def test_mlflow_shows_what_the_journal_says(client: MlflowClient, journal: Journal) -> None:
    run_id = uploader.send(journal.folder)["run_id"]
    shown = everything(client, run_id)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "model2 seed 42"
    assert client.get_experiment(run.info.experiment_id).name == "svhn"
    assert shown["params"] == {
        "training.learning_rate": "0.001",
        "training.augmentation.enabled": "False",
    }
    assert run.data.tags["trial.state"] == "complete"
    assert shown["artifacts"] == ["figures", "images", "figures/curves.png"]
    assert shown["datasets"] == [("digits.h5", ("ab" * 32)[:36])]
    accuracies = shown["metrics"]["val/accuracy"]  # type: ignore[index]
    assert [(step, value) for _, step, value in accuracies] == [(1, 0.5), (2, 0.7)]
    assert [(step, value) for _, step, value in shown["metrics"]["test/accuracy"]] == [(0, 0.65)]  # type: ignore[index]


def test_times_are_the_journals_not_the_sendings(client: MlflowClient, journal: Journal) -> None:
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
    before = everything(client, sent["run_id"])
    assert uploader.send(journal.folder) == sent
    (journal.folder / upload_state.SENT).write_text("torn by a cra")
    assert uploader.send(journal.folder) == sent
    assert everything(client, sent["run_id"]) == before
    assert len(client.search_runs([sent["experiment_id"]])) == 1


@pytest.mark.parametrize("events_sent", range(1, 11))
def test_a_sender_that_died_after_any_event_is_continued(
    client: MlflowClient, journal: Journal, monkeypatch: pytest.MonkeyPatch, events_sent: int
) -> None:
    remember = upload_state.save
    calls = []

    def dies(folder: Path, sent: upload_state.Sent) -> None:
        calls.append(sent)
        if len(calls) == events_sent:  # the event is in MLflow, but that is not remembered
            raise KeyboardInterrupt
        remember(folder, sent)

    monkeypatch.setattr(upload_state, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        uploader.send(journal.folder)
    monkeypatch.setattr(upload_state, "save", remember)
    sent = uploader.send(journal.folder)
    assert len(client.search_runs([sent["experiment_id"]])) == 1
    shown = everything(client, sent["run_id"])
    assert len(shown["metrics"]["val/accuracy"]) == 2  # type: ignore[index]
    assert len(shown["models"]) == 1  # type: ignore[arg-type]


def test_each_store_is_sent_to_on_its_own(
    client: MlflowClient, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploader.send(journal.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    assert upload_state.load(journal.folder) is None
    other = uploader.send(journal.folder)
    assert tracking_uri.connect().get_run(other["run_id"]).info.status == "FINISHED"


def test_a_new_store_at_the_same_place_knows_nothing(
    client: MlflowClient, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = uploader.send(journal.folder)
    (tmp_path / "mlflow.db").unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    state = (journal.folder / upload_state.SENT).read_text()
    (journal.folder / upload_state.SENT).write_text(state.replace("/mlflow.db", "/other.db"))
    second = uploader.resend(journal.folder)
    assert second is not None
    assert second["run_id"] != first["run_id"]
    assert tracking_uri.connect().get_run(second["run_id"]).info.status == "FINISHED"


def test_one_call_sends_what_lies_together(
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
        journal.metrics({"val/accuracy": epoch / 100}, step=epoch)
    sent = uploader.send(journal.folder)
    assert (
        calls == 6
    )  # tags with params; three metrics; the description; the end; 97 metrics in two
    assert len(client.get_metric_history(sent["run_id"], "val/accuracy")) == 99


def test_where_the_user_deleted_the_experiment_the_reason_says_how_to_restore_it(
    client: MlflowClient, journal: Journal
) -> None:
    sent = uploader.send(journal.folder)
    client.delete_experiment(sent["experiment_id"])
    (journal.folder / upload_state.SENT).unlink()
    with pytest.raises(
        LookupError, match=r"the experiment svhn was deleted there; `mlflow experiments restore "
    ):
        uploader.send(journal.folder)


def test_a_run_that_the_user_deleted_does_not_come_back(
    client: MlflowClient, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = uploader.send(journal.folder)
    client.delete_run(first["run_id"])
    assert uploader.resend(journal.folder) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    assert uploader.resend(journal.folder) is not None
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert uploader.resend(journal.folder) is None
    assert client.search_runs([first["experiment_id"]]) == []


def test_the_model_arrives_whole_and_ready(
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


def test_artifacts_lie_where_mlflow_ui_looks(
    client: MlflowClient, journal: Journal, tmp_path: Path
) -> None:
    run = client.get_run(uploader.send(journal.folder)["run_id"])
    assert run.info.artifact_uri.startswith((tmp_path / "mlruns").as_uri())
    (dataset,) = run.inputs.dataset_inputs
    assert [(tag.key, tag.value) for tag in dataset.tags] == [("mlflow.data.context", "training")]


def test_a_removed_artifact_does_not_hold_up_the_rest(
    client: MlflowClient, journal: Journal
) -> None:
    (journal.folder / "figures" / "curves.png").unlink()
    run = client.get_run(uploader.send(journal.folder)["run_id"])
    assert run.info.status == "FINISHED"


@pytest.mark.parametrize("left", [b"", b"half a pic"])
def test_a_picture_that_a_power_cut_spoilt_does_not_hold_up_the_rest(
    client: MlflowClient, journal: Journal, left: bytes
) -> None:
    (journal.folder / "figures" / "curves.png").write_bytes(left)
    run = client.get_run(uploader.send(journal.folder)["run_id"])
    assert run.info.status == "FINISHED"
    assert not client.list_artifacts(run.info.run_id, "images")


CALLS = ("create_run", "log_batch", "log_inputs", "log_artifact", "log_image", "set_experiment_tag")


MODEL_CALLS = ("create_logged_model", "log_outputs", "log_model_artifacts", "finalize_logged_model")


@pytest.mark.parametrize("name", [*CALLS, *MODEL_CALLS, "set_tag", "set_terminated"])
@pytest.mark.parametrize("answered", [False, True])
def test_a_call_that_failed_once_is_made_up_for(
    client: MlflowClient,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    answered: bool,
) -> None:
    """`answered`: the store did what it was told, and only its answer was lost."""
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
    assert len(everything(client, sent["run_id"])["models"]) == 1  # type: ignore[arg-type]


def test_two_senders_make_one_run(client: MlflowClient, journal: Journal) -> None:
    script = (
        "import sys; from svhn_sweep.tracking.uploader import send; "
        "print(send(__import__('pathlib').Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", script, str(journal.folder)]
    senders = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [(sender.communicate()[1], sender.returncode) for sender in senders] == [("", 0)] * 3
    experiment = client.get_experiment_by_name("svhn")
    assert len(client.search_runs([experiment.experiment_id])) == 1
    assert len(client.search_logged_models([experiment.experiment_id])) == 1


def test_two_that_make_the_experiment_at_the_same_time_share_it(
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
        session(journal, "/here/digits.h5", epochs=2)
        if not killed:
            journal.end(TrialStatus.interrupted, "Ctrl-C")


def continued(folder: Path) -> None:
    """The rest of it, which repeats the second epoch; the data lie elsewhere by now."""
    with Journal(folder) as journal:
        session(journal, "/there/digits.h5", epochs=3)
        journal.metrics({"val/best_accuracy": 0.3})
        journal.end(TrialStatus.complete)


def session(journal: Journal, path: str, epochs: int) -> None:
    journal.start(name="trial 1", experiment="svhn", store="", tags={"trial.state": "running"})
    journal.dataset(name="digits.h5", digest="ab" * 32, source=path)
    journal.params({"seed": 1, "data.path": path})
    for epoch in range(2 if path.startswith("/there") else 1, epochs + 1):
        journal.metrics({"val/accuracy": epoch / 10}, step=epoch)


@pytest.mark.parametrize(
    "sent_after", [(), ("start",), ("stop",), ("restart",), ("start", "stop", "restart")]
)
@pytest.mark.parametrize("killed", [False, True])
def test_an_interrupted_run_goes_on_as_the_same_run(
    client: MlflowClient, tmp_path: Path, sent_after: tuple[str, ...], killed: bool
) -> None:
    """`killed`: by what leaves no time to write an end."""
    folder = tmp_path / "run"
    sent = []
    with Journal(folder) as journal:
        session(journal, "/here/digits.h5", epochs=1)
        if "start" in sent_after:
            sent.append(uploader.send(folder)["run_id"])
    interrupted(folder, killed=killed)
    assert finalize_if_dead(folder)
    if "stop" in sent_after:
        sent.append(uploader.send(folder)["run_id"])
        run = client.get_run(sent[-1])
        assert (run.info.status, run.data.tags["trial.state"]) == ("KILLED", "interrupted")
    with Journal(folder) as journal:
        session(journal, "/there/digits.h5", epochs=2)
    if "restart" in sent_after:
        sent.append(uploader.send(folder)["run_id"])
        run = client.get_run(sent[-1])
        assert (run.info.status, run.data.tags["trial.state"]) == ("RUNNING", "running")
    continued(folder)
    sent.append(uploader.send(folder)["run_id"])
    assert len(set(sent)) == 1
    shown, run = everything(client, sent[0]), client.get_run(sent[0])
    assert len(client.search_runs([run.info.experiment_id])) == 1
    assert (run.info.status, run.data.tags["trial.state"], run.data.tags["trial.reason"]) == (
        "FINISHED",
        "complete",
        "",
    )
    assert run.data.params == {"seed": "1", "data.path": "/here/digits.h5"}
    accuracies = shown["metrics"]["val/accuracy"]  # type: ignore[index]
    assert [(step, value) for _, step, value in accuracies] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert len(shown["metrics"]["val/best_accuracy"]) == 1  # type: ignore[index]
    assert shown["datasets"] == [("digits.h5", ("ab" * 32)[:36])]
    last = json.loads((folder / "journal.jsonl").read_text().splitlines()[-1])
    assert run.info.end_time == last["time"]


def test_all_of_a_resumed_run_may_be_sent_again(client: MlflowClient, tmp_path: Path) -> None:
    interrupted(tmp_path / "run")
    continued(tmp_path / "run")
    sent = uploader.send(tmp_path / "run")
    before = everything(client, sent["run_id"])
    (tmp_path / "run" / upload_state.SENT).unlink()
    assert uploader.send(tmp_path / "run") == sent
    assert everything(client, sent["run_id"]) == before


def test_what_is_noted_after_the_end_arrives(client: MlflowClient, journal: Journal) -> None:
    run_id = uploader.send(journal.folder)["run_id"]
    before = client.get_run(run_id).info
    journal.metrics({"delta_to_baseline": 0.02})
    uploader.send(journal.folder)
    run = client.get_run(run_id)
    assert run.data.metrics["delta_to_baseline"] == 0.02
    assert (run.info.status, run.info.end_time) == ("FINISHED", before.end_time)


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
def test_trials_lie_within_their_study_whichever_is_sent_first(
    client: MlflowClient, study: Path, order: tuple[str, ...]
) -> None:
    sent = {path: uploader.send(study / path) for path in order}
    runs = {run.info.run_id: run for run in client.search_runs([sent["."]["experiment_id"]])}
    assert runs.keys() == {each["run_id"] for each in sent.values()}
    assert len(runs) == 1 + len(TRIALS)
    parents = [
        runs[sent[path]["run_id"]].data.tags.get("mlflow.parentRunId") for path in (".", *TRIALS)
    ]
    assert parents == [None, *[sent["."]["run_id"]] * len(TRIALS)]
    assert runs[sent["."]["run_id"]].data.tags["role"] == "sweep"
    assert runs[sent["."]["run_id"]].info.status == "RUNNING"


def test_a_sender_that_died_between_a_study_and_its_trial_makes_no_second_study(
    client: MlflowClient, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(folder: Path, sent: upload_state.Sent) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(upload_state, "save", dies)
        with pytest.raises(KeyboardInterrupt):
            uploader.send(study / "trial-0")
    sent = [uploader.send(study / path) for path in (*TRIALS, ".")]
    assert len(client.search_runs([sent[0]["experiment_id"]])) == 1 + len(TRIALS)


def test_trials_and_their_study_may_be_sent_at_once(client: MlflowClient, study: Path) -> None:
    with ThreadPoolExecutor() as pool:
        sent = list(
            pool.map(
                lambda path: uploader.send(study / path),
                ("trial-0", "trial-0", "trial-0", ".", "."),
            )
        )
    runs = client.search_runs([sent[0]["experiment_id"]])
    assert sorted(run.info.run_name for run in runs) == ["study", "trial-0"]


def test_in_a_new_store_at_the_same_place_a_trial_finds_its_study(
    client: MlflowClient, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = uploader.send(study)
    for path in (study, study / "trial-0"):
        (path / upload_state.SENT).write_text(json.dumps({f"sqlite:///{tmp_path}/other.db": lost}))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    (trial, other, parent) = (uploader.resend(study / path) for path in ("trial-0", "trial-1", "."))
    assert trial is not None
    assert other is not None
    assert parent is not None
    found = {
        run.info.run_id: run.data.tags
        for run in tracking_uri.connect().search_runs([parent["experiment_id"]])
    }
    assert len(found) == 3
    assert found[parent["run_id"]]["role"] == "sweep"
    assert {found[each["run_id"]]["mlflow.parentRunId"] for each in (trial, other)} == {
        parent["run_id"]
    }


def test_a_store_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    script = "from svhn_sweep.tracking import tracking_uri; tracking_uri.connect()"
    process = subprocess.Popen([sys.executable, "-c", script])
    while not list(tmp_path.iterdir()):
        time.sleep(0.01)
    time.sleep(0.3)
    process.kill()
    process.wait()
    assert tracking_uri.connect().search_experiments()


@pytest.mark.parametrize("processes", [1, 4])
def test_a_database_is_made_by_whoever_is_first(tmp_path: Path, processes: int) -> None:
    script = (
        "import os, sqlite3, sys; from pathlib import Path; from "
        "svhn_sweep.tracking.tracking_uri import create_whole\n"
        "def create(path):\n"
        "    with sqlite3.connect(path) as database:\n"
        "        database.execute('create table owner as select ? as pid', [os.getpid()])\n"
        "    database.close()\n"
        "create_whole(Path(sys.argv[1]), create)"
    )
    path = tmp_path / "new.db"
    started = [
        subprocess.Popen([sys.executable, "-c", script, str(path)]) for _ in range(processes)
    ]
    assert [process.wait() for process in started] == [0] * processes
    with closing(sqlite3.connect(path)) as database:
        ((owner,),) = database.execute("select pid from owner")
    assert owner in [process.pid for process in started]
    assert list(tmp_path.iterdir()) == [path]


def test_a_database_that_is_there_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "there.db"
    path.write_text("mine")
    tracking_uri.create_whole(path, lambda path: path.write_text("new"))
    assert path.read_text() == "mine"


def test_a_database_whose_tables_could_not_be_made_is_not_there(tmp_path: Path) -> None:
    def fails(path: Path) -> None:
        path.write_text("half")
        raise OSError("disk full")

    path = tmp_path / "new.db"
    with pytest.raises(OSError, match="disk full"):
        tracking_uri.create_whole(path, fails)
    assert not path.exists()
    tracking_uri.create_whole(path, lambda path: path.write_text("whole"))
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("uri", "address", "error"),
    [
        (
            "http://user:secret@host:5000",
            "http://host:5000",
            "no route to http://user:secret@host:5000/api",
        ),
        (
            "http://user:se/cret@host:5000",
            "http://host:5000",
            "no route to http://user:se/cret@host:5000",
        ),
        ("http://user:se%2Fcret@host", "http://host", "wrong password se/cret for user:se%2Fcret"),
        ("https://host/mlflow?token=secret", "https://host/mlflow", "GET /mlflow?token=secret"),
        (
            "postgresql+psycopg://me:secret@db/x",
            "postgresql+psycopg://db/x",
            "password 'secret' refused",
        ),
        (
            "postgresql://db/x?user=u&password=secret",
            "postgresql://db/x",
            "db/x?user=u&password=secret",
        ),
        ("http://host", "http://host", "and http://other:secret@proxy"),
    ],
)
def test_passwords_are_never_shown(
    uri: str, address: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert tracking_uri.address() == address
    shown = tracking_uri.redacted(error) + tracking_uri.reason(RuntimeError(error))
    assert "secret" not in shown
    assert "se/cret" not in shown
    assert "***" in shown


def test_a_path_with_an_at_sign_is_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////tmp/a@b/mlflow.db")
    assert tracking_uri.address() == "sqlite:////tmp/a@b/mlflow.db"
    assert tracking_uri.redacted("in /tmp/a@b") == "in /tmp/a@b"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("first\nsecond"), "first"),
        (TimeoutError(), "TimeoutError"),
        (OSError("  \n"), "OSError"),
    ],
)
def test_an_error_always_has_a_reason(error: Exception, reason: str) -> None:
    assert tracking_uri.reason(error) == reason


@pytest.mark.parametrize("uri", ["localhost:5000", "./mlruns", "ftp://host"])
def test_what_is_no_store_is_refused(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(
        ConfigError, match=f"MLFLOW_TRACKING_URI must begin with one of http:, .* but is {uri}"
    ):
        tracking_uri.check()


def test_however_it_is_spelt_a_database_is_one_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spelt = []
    for uri in ("", "sqlite:///mlflow.db", f"sqlite:///{tmp_path}/mlflow.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        spelt.append(tracking_uri.address())
    assert set(spelt) == {f"sqlite:///{tmp_path}/mlflow.db"}


def test_the_default_store_is_mlflows_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri.store_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    assert tracking_uri.store_uri() == "http://server"
