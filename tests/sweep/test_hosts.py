"""Several hosts, one study: real PostgreSQL, a real MLflow server with passwords, and real failures of each."""

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import Cluster, Host, started
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState
from servers import postgres_programs

from svhn_sweep.tracking.journal import history

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # connections of MLflow and Optuna
    pytest.mark.skipif(postgres_programs() is None, reason="needs PostgreSQL: apt-get install postgresql"),
]

GRACE = 6


@pytest.fixture(scope="module")
def cluster(plain_environment: dict[str, str]) -> Iterator[Cluster]:
    with started(dict(plain_environment)) as cluster:
        yield cluster


@pytest.fixture
def sweep(cluster: Cluster, small_h5: Path) -> Callable[..., tuple[str, ...]]:
    """`sweep(name, *more)`: the command that every host starts."""

    def command(name: str, *more: str) -> tuple[str, ...]:
        data = ("data=svhn", f"data.path={small_h5}", "model=model1", "training.epochs=4")
        small = (
            "hydra.sweeper.confirm=null",
            "hydra.sweeper.pruner.name=none",
            f"hydra.sweeper.takeover_after={GRACE}",
        )
        where = (f"hydra.sweeper.storage={cluster.postgres.storage}", f"hydra.sweeper.study_name={name}")
        return ("-m", "optuna", *data, *small, *where, *more)

    return command


def finish(process: "subprocess.Popen[str]", seconds: float = 240) -> str:
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, out + err
    return out


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    for _ in range(int(seconds * 10)):
        if condition():
            return
        time.sleep(0.1)
    raise TimeoutError


def finished(cluster: Cluster, study: str) -> int:
    try:
        return sum(trial.state.is_finished() for trial in cluster.study(study).trials)
    except KeyError:  # not yet created
        return 0


def assert_whole(cluster: Cluster, study: str, budget: int, epochs: int = 4) -> dict[int, Run]:
    """Exactly the budget, each trial once in Optuna and once in MLflow, with a curve that has no gap; one parent."""
    trials = [each for each in cluster.study(study).trials if each.user_attrs.get("state") != "surplus"]
    assert Counter(trial.state for trial in trials) == {TrialState.COMPLETE: budget}
    assert len({str(trial.params) for trial in trials}) == budget
    runs = cluster.runs(study)
    (parent,) = [run for run in runs if run.data.tags["role"] == "sweep"]
    assert parent.info.status == "FINISHED"
    children = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    by_number = {int(run.data.tags["trial.number"]): run for run in children}
    assert sorted(run.data.tags["trial.number"] for run in children) == sorted(str(trial.number) for trial in trials)
    assert {run.info.status for run in children} == {"FINISHED"}
    for trial in trials:
        assert sorted(trial.intermediate_values) == list(range(1, epochs + 1))
        assert by_number[trial.number].data.metrics["val/best_accuracy"] == pytest.approx(trial.value)
    assert trials[0].params["training.learning_rate"] == 0.001
    return by_number


def test_hosts_that_start_in_the_same_second_share_one_study(
    cluster: Cluster, sweep: Callable[..., tuple[str, ...]]
) -> None:
    command = sweep("together", "hydra.sweeper.n_trials=20", "hydra.sweeper.workers=2")
    hosts = [cluster.host(PRETEND_SECONDS="0.2") for _ in range(4)]
    processes = [host.start(*command) for host in hosts]
    wait_until(lambda: finished(cluster, "together") >= 5)
    assert secrets_in_processes(cluster) == []
    shown = [finish(process) for process in processes]
    runs = assert_whole(cluster, "together", 20)
    assert sum("has written the report" in each for each in shown) == 3
    owners = Counter(trial.user_attrs["owner"] for trial in cluster.study("together").trials)
    assert len(owners) >= 2  # two cores start one host after the other
    assert {run.data.tags["role"] for run in runs.values()} == {"baseline", "trial"}


def secrets_in_processes(cluster: Cluster) -> list[str]:
    """Commands that anybody on the machine can read a password in."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        found += [command.decode()] if any(secret in command for secret in secrets(cluster)) else []
    return found


def secrets(cluster: Cluster) -> list[bytes]:
    return [cluster.postgres.password.encode(), cluster.mlflow.password.encode()]


def test_a_dead_hosts_trials_are_taken_over(cluster: Cluster, sweep: Callable[..., tuple[str, ...]]) -> None:
    command = sweep("dead", "hydra.sweeper.n_trials=8", "hydra.sweeper.workers=1")
    dying, living = cluster.host(PRETEND_SECONDS="3"), cluster.host(PRETEND_SECONDS="3")
    dying.start(*command)
    process = living.start(*command)
    wait_until(lambda: len(running(cluster, "dead")) == 2 and all(journals(host, "dead") for host in (dying, living)))
    (lost,) = [trial for trial in running(cluster, "dead") if is_of(trial, dying)]
    dying.kill()
    killed = time.monotonic()
    wait_until(lambda: cluster.study("dead").trials[lost.number].user_attrs["owner"] != lost.user_attrs["owner"])
    assert GRACE - 1 < time.monotonic() - killed < GRACE + 30  # its heartbeat grows old; then a worker becomes free
    finish(process)
    assert_whole(cluster, "dead", 8)


def is_of(trial: FrozenTrial, host: Host) -> bool:
    owner = str(trial.user_attrs.get("owner", "-"))
    return (host.path / "multirun" / "dead" / "hosts" / owner).exists()


def journals(host: Host, study: str) -> list[Path]:
    """Of the trials that its workers have begun."""
    return list(host.path.glob(f"multirun/{study}/trial-*/journal.jsonl"))


def test_a_stopped_host_gives_its_trials_back_at_once(cluster: Cluster, sweep: Callable[..., tuple[str, ...]]) -> None:
    command = sweep(
        "stopped", "hydra.sweeper.n_trials=3", "hydra.sweeper.workers=1", "hydra.sweeper.takeover_after=600"
    )
    first, second = cluster.host(PRETEND_SECONDS="1"), cluster.host(PRETEND_SECONDS="0.2")
    process = first.start(*command)
    wait_until(lambda: finished(cluster, "stopped") >= 1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    (parent,) = [run for run in cluster.runs("stopped") if run.data.tags["role"] == "sweep"]
    assert (parent.info.status, parent.data.tags["trial.state"]) == ("KILLED", "interrupted")
    finish(second.start(*command), 150)  # far less than takeover_after
    assert_whole(cluster, "stopped", 3)


def test_a_database_that_is_away_for_longer_than_the_grace_period_costs_time_and_no_trial(
    cluster: Cluster, sweep: Callable[..., tuple[str, ...]]
) -> None:
    command = sweep("outage", "hydra.sweeper.n_trials=6", "hydra.sweeper.workers=1", "training.epochs=12")
    processes = [cluster.host(PRETEND_SECONDS="1").start(*command) for _ in range(2)]
    wait_until(lambda: finished(cluster, "outage") >= 1)
    owners = {trial.number: trial.user_attrs["owner"] for trial in cluster.study("outage").trials}
    cluster.postgres.stop()
    epochs = epochs_written(cluster)
    time.sleep(2 * GRACE)
    assert epochs_written(cluster) > epochs + 4  # the answers that they were waiting for; then they train on
    cluster.postgres.start()
    for process in processes:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        assert err.count("database does not answer") == err.count("answers again") == 1
    assert_whole(cluster, "outage", 6, epochs=12)
    kept = {trial.number: trial.user_attrs["owner"] for trial in cluster.study("outage").trials}
    assert owners.items() <= kept.items()  # no living trial was robbed


def epochs_written(cluster: Cluster) -> int:
    folders = [
        path.parent for host in cluster.hosts for path in host.path.glob("multirun/outage/trial-*/journal.jsonl")
    ]
    return sum(len(history(folder)) for folder in folders)


def test_a_host_that_was_cut_off_and_comes_back_drops_what_another_has_taken_over(
    cluster: Cluster, sweep: Callable[..., tuple[str, ...]]
) -> None:
    if cluster.network is None:
        pytest.skip("needs network namespaces: root and iproute2")
    command = sweep("cut", "hydra.sweeper.n_trials=6", "hydra.sweeper.workers=1")
    lonely, other = cluster.host(PRETEND_SECONDS="8"), cluster.host(PRETEND_SECONDS="0.5")
    process = lonely.start(*command)
    wait_until(lambda: bool(journals(lonely, "cut")))
    (lost,) = running(cluster, "cut")
    cluster.network.cut(lonely.namespace)
    helper = other.start(*command)
    wait_until(lambda: cluster.study("cut").trials[lost.number].state == TrialState.COMPLETE)
    winner = cluster.study("cut").trials[lost.number].user_attrs["owner"]
    assert winner != lost.user_attrs["owner"]
    cluster.network.cut(lonely.namespace, off=False)
    shown = finish(process)
    finish(helper)
    assert f"cut trial {lost.number}  interrupted" in shown
    assert f"{winner} has it now" in shown
    assert_whole(cluster, "cut", 6)


def running(cluster: Cluster, study: str) -> list[FrozenTrial]:
    try:
        return [trial for trial in cluster.study(study).trials if trial.state == TrialState.RUNNING]
    except KeyError:  # not yet created
        return []


def test_in_a_folder_that_hosts_share_a_trial_goes_on_after_its_last_epoch(
    cluster: Cluster, sweep: Callable[..., tuple[str, ...]]
) -> None:
    command = sweep("shared", "hydra.sweeper.n_trials=2", "hydra.sweeper.workers=1")
    shared = cluster.folder / "shared"
    first = cluster.host(folder=shared, PRETEND_SECONDS="2")
    first.start(*command)
    folder = shared / "multirun" / "shared" / "trial-0000"
    wait_until(lambda: max(history(folder), default=0) >= 2)
    first.kill()
    finish(cluster.host(folder=shared, PRETEND_SECONDS="0.2").start(*command))
    assert_whole(cluster, "shared", 2)
    seconds = [metrics["epoch_seconds"] for epoch, metrics in sorted(history(folder).items()) if epoch]
    assert seconds[:2] == [2, 2]
    assert seconds[-1] == 0.2


def test_what_one_host_trained_another_can_judge_and_no_password_is_written_anywhere(
    cluster: Cluster, sweep: Callable[..., tuple[str, ...]]
) -> None:
    small = ("model.filters.conv2=2", "model.dropout=0", "training.epochs=2", "hydra.sweeper.confirm.seeds=2")
    command = [each for each in sweep("judged", "hydra.sweeper.n_trials=3") if each != "hydra.sweeper.confirm=null"]
    hosts = [cluster.host(pretend=False) for _ in range(2)]
    shown = [finish(process) for process in [host.start(*command, *small, "hydra.sweeper.workers=1") for host in hosts]]
    assert sum("has written the report" in each for each in shown) == 1
    assert sum("n test, read once" in each for each in shown) == 2
    trained = [{path.parent for path in host.path.rglob("journal.jsonl")} for host in hosts]
    assert all(any("trial-" in str(folder) for folder in folders) for folders in trained)
    (version,) = MlflowClient(cluster.mlflow.address).search_model_versions("name='svhn-digits'")
    assert version.tags["study"] == "judged"
    files = [path for path in cluster.folder.rglob("*") if path.is_file() and path.name not in ("password", "auth.ini")]
    assert len(files) > 1000
    assert [path for path in files if any(secret in path.read_bytes() for secret in secrets(cluster))] == []
