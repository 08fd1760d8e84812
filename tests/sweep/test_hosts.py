"""Several hosts, one study: real PostgreSQL, a real MLflow server with passwords, and real failures of each."""

import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from cluster import GRACE, MARKS, Cluster, Host, assert_whole, finish, finished, journals, running, wait_until
from mlflow import MlflowClient
from optuna.trial import FrozenTrial

from svhn_sweep.tracking.journal import history

pytestmark = MARKS


def test_hosts_that_start_in_the_same_second_share_one_study(
    cluster: Cluster, sweep: Callable[..., tuple[str, ...]]
) -> None:
    command = sweep("together", "hydra.sweeper.n_trials=12", "hydra.sweeper.workers=2")
    hosts = [cluster.host(PRETEND_SECONDS="0.2") for _ in range(3)]
    processes = [host.start(*command) for host in hosts]
    wait_until(lambda: finished(cluster, "together") >= 5)
    assert secrets_in_processes(cluster) == []
    shown = [finish(process) for process in processes]
    runs = assert_whole(cluster, "together", 12)
    assert sum("has written the report" in each for each in shown) == 2
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
    command = sweep("dead", "hydra.sweeper.n_trials=3", "hydra.sweeper.workers=1")
    dying, living = cluster.host(PRETEND_SECONDS="2"), cluster.host(PRETEND_SECONDS="2")
    dying.start(*command)
    process = living.start(*command)
    wait_until(lambda: len(running(cluster, "dead")) == 2 and all(journals(host, "dead") for host in (dying, living)))
    (lost,) = [trial for trial in running(cluster, "dead") if is_of(trial, dying)]
    dying.kill()
    killed = time.monotonic()
    wait_until(lambda: cluster.study("dead").trials[lost.number].user_attrs["owner"] != lost.user_attrs["owner"])
    assert GRACE - 1 < time.monotonic() - killed < GRACE + 30  # its heartbeat grows old; then a worker becomes free
    finish(process)
    assert_whole(cluster, "dead", 3)


def is_of(trial: FrozenTrial, host: Host) -> bool:
    owner = str(trial.user_attrs.get("owner", "-"))
    return (host.path / "multirun" / "dead" / "hosts" / owner).exists()


def has_owner(trial: FrozenTrial) -> bool:
    return "owner" in trial.user_attrs


def test_a_stopped_host_gives_its_trials_back_at_once(cluster: Cluster, sweep: Callable[..., tuple[str, ...]]) -> None:
    command = sweep(
        "stopped", "hydra.sweeper.n_trials=3", "hydra.sweeper.workers=1", "hydra.sweeper.takeover_after=600"
    )
    first, second = cluster.host(PRETEND_SECONDS="1"), cluster.host(PRETEND_SECONDS="0.2")
    process = first.start(*command)
    # Stopped while Optuna makes a trial, before it is anybody's, the host would leave that one to `takeover_after`.
    wait_until(lambda: finished(cluster, "stopped") >= 1 and any(map(has_owner, running(cluster, "stopped"))))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    (parent,) = [run for run in cluster.runs("stopped") if run.data.tags["role"] == "sweep"]
    assert (parent.info.status, parent.data.tags["trial.state"]) == ("KILLED", "interrupted")
    finish(second.start(*command), 270)  # far less than takeover_after
    assert_whole(cluster, "stopped", 3)


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
