import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from mlflow import MlflowClient

from svhn_sweep.errors import Terminated
from svhn_sweep.import_lock import import_lock
from svhn_sweep.tracking import background_uploader, tracking_uri, upload_state, uploader
from svhn_sweep.tracking.background_uploader import BackgroundUploader
from svhn_sweep.tracking.journal import Journal
from svhn_sweep.tracking.upload_state import UploadState
from svhn_sweep.trial_status import TrialStatus

# MLflow's own: SQLAlchemy sessions that its store leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

UPLOADED: UploadState = {"run_id": "r", "experiment_id": "1", "position": 0}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """The names of the folders that were sent, in order; nothing reaches MLflow."""
    names: list[str] = []
    monkeypatch.setattr(background_uploader, "POLL_SECONDS", 0.01)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://here")

    def send(folder: Path) -> UploadState:
        names.append(folder.name)
        return UPLOADED

    monkeypatch.setattr(uploader, "send", send)
    monkeypatch.setattr(tracking_uri, "is_available", lambda: True)
    yield names
    for thread in threading.enumerate():
        if thread.name == "mlflow":
            thread.join(20)  # one that nobody waited for would send to the next test
            assert not thread.is_alive()


@pytest.fixture
def hanging(sent: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A store that answers only when this is set."""
    answer = threading.Event()
    good = uploader.send

    def send(folder: Path) -> UploadState:
        answer.wait()
        return good(folder)

    monkeypatch.setattr(uploader, "send", send)
    yield answer
    answer.set()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The folder of a run that has started."""
    with started(tmp_path / "own"):
        return tmp_path / "own"


def started(folder: Path, store: str = "http://here", **options: str) -> Journal:
    journal = Journal(folder)
    journal.start(name=folder.name, experiment="svhn", store=store, tags={}, **options)
    return journal


def ended(folder: Path, store: str = "http://here") -> Path:
    with started(folder, store) as journal:
        journal.end(TrialStatus.complete)
    return folder


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError("it did not happen in a minute")


def test_a_run_is_sent_when_its_journal_has_grown_and_only_then(sent: list[str], own: Path) -> None:
    with BackgroundUploader([own]) as background:
        wait_until(lambda: sent == ["own"])
        with Journal(own) as journal:
            for grown in (2, 3):
                time.sleep(0.1)
                assert len(sent) == grown - 1
                journal.log_metrics({"val/accuracy": 0.5}, step=grown)
                wait_until(lambda grown=grown: len(sent) == grown)  # type: ignore[misc]
    assert background.sent
    assert sent == ["own"] * 3


def test_an_event_written_during_an_upload_is_sent_too(
    sent: list[str], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = uploader.send

    def send(folder: Path) -> UploadState:
        if not sent:
            with Journal(folder) as journal:
                journal.log_artifact("config.yaml")
        return good(folder)

    monkeypatch.setattr(uploader, "send", send)
    with BackgroundUploader([own]):
        wait_until(lambda: len(sent) == 2)
    assert sent == ["own"] * 2


def test_the_end_sends_once_more_and_nothing_is_sent_afterwards(
    sent: list[str], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_uploader, "POLL_SECONDS", 600)
    with BackgroundUploader([own]) as background:
        time.sleep(0.1)
        assert not sent
    assert background.sent
    assert sent == ["own"]
    with Journal(own) as journal:
        journal.log_artifact("config.yaml")
    time.sleep(0.1)
    assert sent == ["own"]


def test_a_run_is_sent_once_it_has_started(sent: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "journal.jsonl").touch()
    with BackgroundUploader([tmp_path / "own", tmp_path / "empty"]) as background:
        time.sleep(0.1)
        assert not sent
        with started(tmp_path / "own"):
            wait_until(lambda: "own" in sent)
    assert background.sent
    assert set(sent) == {"own"}


def test_a_run_watched_later_is_sent(sent: list[str], own: Path, tmp_path: Path) -> None:
    with BackgroundUploader([own]) as background:
        wait_until(lambda: sent == ["own"])
        background.watch(ended(tmp_path / "later"))
        wait_until(lambda: "later" in sent)
        background.watch(own)
        background.watch(tmp_path / "later")
        background.watch(ended(tmp_path / "last"))
    assert background.sent
    assert sent == ["own", "later", "last"]


def test_earlier_runs_of_this_store_are_sent_after_the_own_one(
    sent: list[str], own: Path, tmp_path: Path
) -> None:
    ended(tmp_path / "outputs" / "here")
    ended(tmp_path / "outputs" / "elsewhere", "http://elsewhere")
    with (
        started(tmp_path / "outputs" / "running"),
        BackgroundUploader([own], [tmp_path / "outputs"]) as background,
    ):
        wait_until(lambda: "here" in sent)
    assert background.sent
    assert sent == ["own", "here"]


def test_an_own_run_among_the_earlier_ones_is_sent_once(sent: list[str], tmp_path: Path) -> None:
    study = ended(tmp_path / "multirun" / "study")
    ended(study / "trial-0")
    ended(study / "trial-1")
    with BackgroundUploader([study], [tmp_path / "multirun"]) as background:
        background.watch(study / "trial-0")
        wait_until(lambda: "trial-1" in sent)
    assert sorted(sent) == ["study", "trial-0", "trial-1"]


@pytest.mark.parametrize("order", [("bad", "good"), ("good", "bad")])
def test_a_bad_run_does_not_keep_others_from_mlflow(
    sent: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    order: tuple[str, ...],
) -> None:
    good = uploader.send

    def send(folder: Path) -> UploadState:
        if folder.name == "bad":
            raise RuntimeError("the user deleted it")
        return good(folder)

    monkeypatch.setattr(uploader, "send", send)
    with BackgroundUploader([ended(tmp_path / name) for name in order]) as background:
        wait_until(lambda: "good" in sent)
        background.watch(ended(tmp_path / "later"))
        wait_until(lambda: "later" in sent)
    assert not background.sent
    assert sent == ["good", "later"]
    assert capsys.readouterr().err.count("cannot record this run: the user deleted it") == 1


def test_a_bad_earlier_run_does_not_keep_this_one_from_mlflow(
    sent: list[str],
    own: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = uploader.send

    def send(folder: Path) -> UploadState:
        if folder.name == "bad":
            raise RuntimeError("bad")
        return good(folder)

    monkeypatch.setattr(uploader, "send", send)
    for name in ("bad", "fine"):
        ended(tmp_path / "outputs" / name)
    (tmp_path / "outputs" / "foreign").mkdir()
    (tmp_path / "outputs" / "foreign" / "journal.jsonl").write_text('{"not": "ours"}\n')
    (tmp_path / "outputs" / "a folder" / "journal.jsonl").mkdir(parents=True)
    with BackgroundUploader([own], [tmp_path / "outputs"]) as background:
        wait_until(lambda: "fine" in sent)
    assert background.sent
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [ConnectionError("refused by http://me:secret@here"), TimeoutError()]
)
def test_a_dead_store_is_one_warning(
    sent: list[str],
    own: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    calls = []

    def send(folder: Path) -> UploadState:
        calls.append(folder)
        raise error

    monkeypatch.setattr(uploader, "send", send)
    with BackgroundUploader([own]) as background:
        wait_until(lambda: len(calls) > 3)
    assert not background.sent
    warning = capsys.readouterr().err
    assert warning.count("svhn_sweep: MLflow at http://here cannot record this run") == 1
    assert tracking_uri.reason(error) in warning
    assert "secret" not in warning


def test_a_store_that_comes_back_gets_everything(
    sent: list[str], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = uploader.send
    calls = []

    def send(folder: Path) -> UploadState:
        calls.append(folder)
        if len(calls) < 3:
            raise ConnectionError("not yet")
        return good(folder)

    monkeypatch.setattr(uploader, "send", send)
    with BackgroundUploader([own]) as background:
        wait_until(lambda: bool(sent))
    assert background.sent


@pytest.mark.parametrize("comes_back", [True, False])
def test_at_the_end_a_store_that_answered_before_is_waited_for(
    sent: list[str], own: Path, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    good = uploader.send
    refused: list[Path] = []

    def send(folder: Path) -> UploadState:
        if sent and not (comes_back and len(refused) > 3):
            refused.append(folder)
            raise ConnectionError("restarting")
        return good(folder)

    monkeypatch.setattr(uploader, "send", send)
    monkeypatch.setattr(tracking_uri, "is_available", lambda: False)
    monkeypatch.setattr(background_uploader, "TIMEOUT_SECONDS", 5 if comes_back else 0.3)
    with BackgroundUploader([own]) as background:
        wait_until(lambda: bool(sent))
        with Journal(own) as journal:
            journal.end(TrialStatus.complete)
    assert background.sent is comes_back
    assert len(refused) > 3
    assert len(sent) == (2 if comes_back else 1)


def test_at_the_end_a_store_that_never_answered_is_not_waited_for(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = ended(tmp_path / "older", tracking_uri.address())
    uploader.send(older)
    newer = ended(tmp_path / "newer", tracking_uri.address())

    def check_and_send(folder: Path) -> UploadState:
        raise ConnectionError("away")

    requests = []
    monkeypatch.setattr(uploader, "check_and_send", check_and_send)
    monkeypatch.setattr(tracking_uri, "is_available", lambda: requests.append("asked"))
    with BackgroundUploader([older, newer]) as background:
        pass
    assert not background.sent
    assert not requests


def test_the_end_gives_up_on_a_store_that_hangs(
    hanging: threading.Event,
    own: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(background_uploader, "TIMEOUT_SECONDS", 0.2)
    with BackgroundUploader([own]) as background:
        pass
    assert not background.sent
    assert "it does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt("stop"), Terminated("stop")])
def test_after_a_stop_by_the_user_the_wait_is_short(
    hanging: threading.Event,
    own: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
) -> None:
    assert background_uploader.TIMEOUT_AFTER_STOP_SECONDS < background_uploader.TIMEOUT_SECONDS
    monkeypatch.setattr(background_uploader, "TIMEOUT_AFTER_STOP_SECONDS", 0.1)
    with pytest.raises(type(error), match="stop"), BackgroundUploader([own]) as background:
        raise error
    assert not background.sent
    assert capsys.readouterr().err == (
        "svhn_sweep: not all of it is in MLflow yet: `python -m svhn_sweep sync` sends it.\n"
    )


def test_mlflow_is_imported_when_tensorflow_is(sent: list[str], own: Path) -> None:
    """A Ctrl-C while both are imported can be lost."""
    with BackgroundUploader([own]) as background:
        with import_lock:
            time.sleep(0.2)
            assert not sent
        wait_until(lambda: sent == ["own"])
    assert background.sent


def test_a_slow_store_that_makes_progress_is_waited_for(
    sent: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [ended(tmp_path / f"run {number}") for number in range(8)]
    good = uploader.send

    def send(folder: Path) -> UploadState:
        time.sleep(0.2)
        return good(folder)

    monkeypatch.setattr(uploader, "send", send)
    monkeypatch.setattr(background_uploader, "TIMEOUT_SECONDS", 0.5)
    with BackgroundUploader(runs) as background:
        pass
    assert background.sent
    assert len(sent) == 8


@pytest.mark.parametrize("error", [None, RuntimeError("failed")])
def test_at_a_normal_end_a_slow_store_is_waited_for(
    hanging: threading.Event, own: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    monkeypatch.setattr(background_uploader, "TIMEOUT_AFTER_STOP_SECONDS", 0)
    timer = threading.Timer(0.3, hanging.set)
    timer.start()
    with (
        pytest.raises(RuntimeError, match="failed") if error else nullcontext(),
        BackgroundUploader([own]) as background,
    ):
        if error:
            raise error
    assert background.sent
    timer.join()


def test_a_study_and_its_trials_arrive_in_mlflow(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_uploader, "POLL_SECONDS", 0.01)
    study = tmp_path / "study"
    trial = study / "trial-0"
    with BackgroundUploader([study]) as background:
        background.watch(trial)
        with started(study, tracking_uri.address()) as top:
            top.set_tags({"role": "sweep"})
            with started(trial, tracking_uri.address(), parent="..") as journal:
                journal.log_metrics({"val/accuracy": 0.5}, step=1)
                wait_until(lambda: (trial / upload_state.FILE_NAME).exists())
                journal.end(TrialStatus.interrupted)
            with started(trial, tracking_uri.address()) as journal:
                journal.log_metrics({"val/accuracy": 0.5}, step=1)
                journal.end(TrialStatus.complete)
            with Journal(trial) as journal:
                journal.log_metrics({"delta_to_baseline": 0.1})
            top.end(TrialStatus.complete)
    assert background.sent
    runs = {run.info.run_name: run for run in client.search_runs(["1"])}
    assert {name: run.info.status for name, run in runs.items()} == {
        "study": "FINISHED",
        "trial-0": "FINISHED",
    }
    assert runs["trial-0"].data.tags["mlflow.parentRunId"] == runs["study"].info.run_id
    assert runs["trial-0"].data.metrics == {"val/accuracy": 0.5, "delta_to_baseline": 0.1}
    assert runs["study"].data.tags["role"] == "sweep"


def test_a_run_that_the_user_deleted_in_mlflow_is_not_sent(
    client: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(background_uploader, "POLL_SECONDS", 0.01)
    with started(tmp_path / "run", tracking_uri.address()) as journal:
        sent = uploader.send(tmp_path / "run")
        client.delete_run(sent["run_id"])
        with BackgroundUploader([tmp_path / "run"]) as background:
            for epoch in range(3):
                journal.log_metrics({"val/accuracy": 0.5}, step=epoch)
                time.sleep(0.1)
    assert background.sent
    assert not capsys.readouterr().err


def test_a_run_that_mlflow_has_completely_is_not_checked(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_uploader, "POLL_SECONDS", 0.01)
    folder = ended(tmp_path / "run", tracking_uri.address())
    uploader.send(folder)
    monkeypatch.setattr(MlflowClient, "get_run", lambda *_: pytest.fail("it was asked"))
    with BackgroundUploader([folder]) as background:
        time.sleep(0.1)
    assert background.sent


def test_folders_that_vanish_during_the_search_for_earlier_runs_are_ignored(
    sent: list[str], own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanished(root: Path) -> list[Path]:
        raise FileNotFoundError(root)

    monkeypatch.setattr(background_uploader, "find_runs", vanished)
    with BackgroundUploader([own], [tmp_path / "outputs"]) as background:
        wait_until(lambda: sent == ["own"])
        with Journal(own) as journal:
            journal.log_artifact("config.yaml")
        wait_until(lambda: sent == ["own"] * 2)
    assert background.sent
