import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from mlflow import MlflowClient

from svhn_sweep.errors import Terminated
from svhn_sweep.tracking import background_uploader, tracking_uri, upload_state, uploader
from svhn_sweep.tracking.background_uploader import BackgroundUploader
from svhn_sweep.tracking.journal import Journal
from svhn_sweep.tracking.upload_state import Sent
from svhn_sweep.trial_status import TrialStatus

# MLflow's own: SQLAlchemy sessions that its store leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

SENT: Sent = {"run_id": "r", "experiment_id": "1", "position": 0}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """The names of the folders that were sent, in order; nothing reaches MLflow."""
    names: list[str] = []
    monkeypatch.setattr(background_uploader, "POLL_SECONDS", 0.01)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://here")

    def send(folder: Path) -> Sent:
        names.append(folder.name)
        return SENT

    monkeypatch.setattr(uploader, "send", send)
    monkeypatch.setattr(tracking_uri, "answers", lambda: True)
    yield names
    for thread in threading.enumerate():
        if thread.name == "mlflow":
            thread.join(20)  # one that nobody waited for would send to the next test
            assert not thread.is_alive()


@pytest.fixture
def hanging(sent: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A store that answers only when this is set."""
    answer, good = threading.Event(), uploader.send

    def send(folder: Path) -> Sent:
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


def started(folder: Path, shown_in: str = "http://here", **options: str) -> Journal:
    journal = Journal(folder)
    journal.start(name=folder.name, experiment="svhn", store=shown_in, tags={}, **options)
    return journal


def ended(folder: Path, shown_in: str = "http://here") -> Path:
    with started(folder, shown_in) as journal:
        journal.end(TrialStatus.complete)
    return folder


def until(holds: Callable[[], bool]) -> None:
    for _ in range(6000):
        if holds():
            return
        time.sleep(0.01)
    raise TimeoutError("it did not happen in a minute")


def test_a_run_is_sent_when_its_journal_has_grown_and_only_then(sent: list[str], own: Path) -> None:
    with BackgroundUploader([own]) as following:
        until(lambda: sent == ["own"])
        with Journal(own) as journal:
            for grown in (2, 3):
                time.sleep(0.1)
                assert len(sent) == grown - 1
                journal.metrics({"val/accuracy": 0.5}, step=grown)
                until(lambda grown=grown: len(sent) == grown)  # type: ignore[misc]
    assert following.sent
    assert sent == ["own"] * 3


def test_what_is_written_while_it_sends_is_sent_too(
    sent: list[str], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = uploader.send

    def send(folder: Path) -> Sent:
        if not sent:
            with Journal(folder) as journal:
                journal.artifact("config.yaml")
        return good(folder)

    monkeypatch.setattr(uploader, "send", send)
    with BackgroundUploader([own]):
        until(lambda: len(sent) == 2)
    assert sent == ["own"] * 2


def test_it_sends_once_more_when_it_is_closed_and_then_no_more(
    sent: list[str], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_uploader, "POLL_SECONDS", 600)
    following = BackgroundUploader([own])
    time.sleep(0.1)
    assert not sent
    assert following.close(5)
    assert sent == ["own"]
    with Journal(own) as journal:
        journal.artifact("config.yaml")
    time.sleep(0.1)
    assert sent == ["own"]


def test_a_run_that_has_not_started_is_waited_for(sent: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "journal.jsonl").touch()
    with BackgroundUploader([tmp_path / "own", tmp_path / "empty"]) as following:
        time.sleep(0.1)
        assert not sent
        with started(tmp_path / "own"):
            until(lambda: "own" in sent)
    assert following.sent
    assert set(sent) == {"own"}


def test_a_run_followed_later_is_sent(sent: list[str], own: Path, tmp_path: Path) -> None:
    with BackgroundUploader([own]) as following:
        until(lambda: sent == ["own"])
        following.watch(ended(tmp_path / "later"))
        until(lambda: "later" in sent)
        following.watch(own)
        following.watch(tmp_path / "later")
        following.watch(ended(tmp_path / "last"))
    assert following.sent
    assert sent == ["own", "later", "last"]


def test_earlier_runs_of_this_store_are_sent_after_the_own_one(
    sent: list[str], own: Path, tmp_path: Path
) -> None:
    ended(tmp_path / "outputs" / "here")
    ended(tmp_path / "outputs" / "elsewhere", "http://elsewhere")
    with started(tmp_path / "outputs" / "running"):
        following = BackgroundUploader([own], [tmp_path / "outputs"])
        until(lambda: "here" in sent)
        assert following.close(5)
    assert sent == ["own", "here"]


def test_an_own_run_among_the_earlier_ones_is_sent_once(sent: list[str], tmp_path: Path) -> None:
    study = ended(tmp_path / "multirun" / "study")
    ended(study / "trial-0")
    ended(study / "trial-1")
    with BackgroundUploader([study], [tmp_path / "multirun"]) as following:
        following.watch(study / "trial-0")
        until(lambda: "trial-1" in sent)
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

    def send(folder: Path) -> Sent:
        if folder.name == "bad":
            raise RuntimeError("the user deleted it")
        return good(folder)

    monkeypatch.setattr(uploader, "send", send)
    with BackgroundUploader([ended(tmp_path / name) for name in order]) as following:
        until(lambda: "good" in sent)
        following.watch(ended(tmp_path / "later"))
        until(lambda: "later" in sent)
    assert not following.sent
    assert sent == ["good", "later"]
    assert capsys.readouterr().err.count("cannot be told about this run: the user deleted it") == 1


def test_a_bad_earlier_run_does_not_keep_this_one_from_mlflow(
    sent: list[str],
    own: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = uploader.send

    def send(folder: Path) -> Sent:
        if folder.name == "bad":
            raise RuntimeError("bad")
        return good(folder)

    monkeypatch.setattr(uploader, "send", send)
    for name in ("bad", "fine"):
        ended(tmp_path / "outputs" / name)
    (tmp_path / "outputs" / "foreign").mkdir()
    (tmp_path / "outputs" / "foreign" / "journal.jsonl").write_text('{"not": "ours"}\n')
    (tmp_path / "outputs" / "a folder" / "journal.jsonl").mkdir(parents=True)
    following = BackgroundUploader([own], [tmp_path / "outputs"])
    until(lambda: "fine" in sent)
    assert following.close(5)
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

    def send(folder: Path) -> Sent:
        calls.append(folder)
        raise error

    monkeypatch.setattr(uploader, "send", send)
    following = BackgroundUploader([own])
    until(lambda: len(calls) > 3)
    assert not following.close(5)
    told = capsys.readouterr().err
    assert told.count("svhn_sweep: MLflow at http://here cannot be told about this run") == 1
    assert tracking_uri.reason(error) in told
    assert "secret" not in told


def test_a_store_that_comes_back_gets_everything(
    sent: list[str], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, calls = uploader.send, []

    def send(folder: Path) -> Sent:
        calls.append(folder)
        if len(calls) < 3:
            raise ConnectionError("not yet")
        return good(folder)

    monkeypatch.setattr(uploader, "send", send)
    following = BackgroundUploader([own])
    until(lambda: bool(sent))
    assert following.close(5)


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_store_that_is_away_when_the_command_ends_is_waited_for_if_it_answered_before(
    sent: list[str], own: Path, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    good = uploader.send
    refused: list[Path] = []

    def send(folder: Path) -> Sent:
        if sent and not (comes_back and len(refused) > 3):
            refused.append(folder)
            raise ConnectionError("restarting")
        return good(folder)

    monkeypatch.setattr(uploader, "send", send)
    monkeypatch.setattr(tracking_uri, "answers", lambda: False)
    monkeypatch.setattr(background_uploader, "PATIENCE_SECONDS", 5 if comes_back else 0.3)
    with BackgroundUploader([own]) as following:
        until(lambda: bool(sent))
        with Journal(own) as journal:
            journal.end(TrialStatus.complete)
    assert following.sent is comes_back
    assert len(refused) > 3
    assert len(sent) == (2 if comes_back else 1)


def test_a_store_that_never_answered_is_not_waited_for_because_it_has_older_runs(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = ended(tmp_path / "older", tracking_uri.address())
    uploader.send(older)
    newer = ended(tmp_path / "newer", tracking_uri.address())

    def resend(folder: Path) -> Sent:
        raise ConnectionError("away")

    monkeypatch.setattr(uploader, "resend", resend)
    monkeypatch.setattr(
        BackgroundUploader, "_wait_for_store", lambda self: pytest.fail("it is waited for")
    )
    with BackgroundUploader([older, newer]) as following:
        pass
    assert not following.sent


def test_a_store_that_hangs_is_left_behind(
    hanging: threading.Event, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    following = BackgroundUploader([own])
    assert not following.close(0.2)
    assert "it does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt("stop"), Terminated("stop")])
def test_somebody_who_stopped_the_command_need_not_wait(
    hanging: threading.Event,
    own: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
) -> None:
    assert background_uploader.PATIENCE_AFTER_STOP_SECONDS < background_uploader.PATIENCE_SECONDS
    monkeypatch.setattr(background_uploader, "PATIENCE_AFTER_STOP_SECONDS", 0.1)
    with pytest.raises(type(error), match="stop"), BackgroundUploader([own]) as following:
        raise error
    assert not following.sent
    assert "it does not answer" in capsys.readouterr().err


def test_a_store_that_is_slow_gets_all_the_time_that_it_takes(
    sent: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [ended(tmp_path / f"run {number}") for number in range(8)]
    good = uploader.send

    def send(folder: Path) -> Sent:
        time.sleep(0.2)
        return good(folder)

    monkeypatch.setattr(uploader, "send", send)
    monkeypatch.setattr(background_uploader, "PATIENCE_SECONDS", 0.5)
    with BackgroundUploader(runs) as following:
        pass
    assert following.sent
    assert len(sent) == 8


@pytest.mark.parametrize("error", [None, RuntimeError("failed")])
def test_a_command_that_was_not_stopped_waits_for_a_slow_store(
    hanging: threading.Event, own: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    monkeypatch.setattr(background_uploader, "PATIENCE_AFTER_STOP_SECONDS", 0)
    timer = threading.Timer(0.3, hanging.set)
    timer.start()
    with (
        pytest.raises(RuntimeError, match="failed") if error else nullcontext(),
        BackgroundUploader([own]) as following,
    ):
        if error:
            raise error
    assert following.sent
    timer.join()


def test_a_study_and_its_trials_arrive_in_mlflow(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_uploader, "POLL_SECONDS", 0.01)
    study, trial = tmp_path / "study", tmp_path / "study" / "trial-0"
    with BackgroundUploader([study]) as following:
        following.watch(trial)
        with started(study, tracking_uri.address()) as top:
            top.tags({"role": "sweep"})
            with started(trial, tracking_uri.address(), parent="..") as journal:
                journal.metrics({"val/accuracy": 0.5}, step=1)
                until(lambda: (trial / upload_state.SENT).exists())
                journal.end(TrialStatus.interrupted)
            with started(trial, tracking_uri.address()) as journal:
                journal.metrics({"val/accuracy": 0.5}, step=1)
                journal.end(TrialStatus.complete)
            with Journal(trial) as journal:
                journal.metrics({"delta_to_baseline": 0.1})
            top.end(TrialStatus.complete)
    assert following.sent
    runs = {run.info.run_name: run for run in client.search_runs(["1"])}
    assert {name: run.info.status for name, run in runs.items()} == {
        "study": "FINISHED",
        "trial-0": "FINISHED",
    }
    assert runs["trial-0"].data.tags["mlflow.parentRunId"] == runs["study"].info.run_id
    assert runs["trial-0"].data.metrics == {"val/accuracy": 0.5, "delta_to_baseline": 0.1}
    assert runs["study"].data.tags["role"] == "sweep"


def test_a_run_that_the_user_deleted_in_mlflow_is_left_alone(
    client: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(background_uploader, "POLL_SECONDS", 0.01)
    with started(tmp_path / "run", tracking_uri.address()) as journal:
        sent = uploader.send(tmp_path / "run")
        client.delete_run(sent["run_id"])
        with BackgroundUploader([tmp_path / "run"]) as following:
            for epoch in range(3):
                journal.metrics({"val/accuracy": 0.5}, step=epoch)
                time.sleep(0.1)
    assert following.sent
    assert not capsys.readouterr().err


def test_a_run_that_mlflow_has_is_not_asked_for(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_uploader, "POLL_SECONDS", 0.01)
    folder = ended(tmp_path / "run", tracking_uri.address())
    uploader.send(folder)
    monkeypatch.setattr(MlflowClient, "get_run", lambda *_: pytest.fail("it was asked"))
    with BackgroundUploader([folder]) as following:
        time.sleep(0.1)
    assert following.sent


def test_folders_that_vanish_while_it_looks_for_earlier_runs_do_no_harm(
    sent: list[str], own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanished(root: Path) -> list[Path]:
        raise FileNotFoundError(root)

    monkeypatch.setattr(background_uploader, "folders", vanished)
    with BackgroundUploader([own], [tmp_path / "outputs"]) as following:
        until(lambda: sent == ["own"])
        with Journal(own) as journal:
            journal.artifact("config.yaml")
        until(lambda: sent == ["own"] * 2)
    assert following.sent
