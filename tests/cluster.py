"""Hosts: folders of their own, each in a network namespace of its own where the machine allows it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import optuna
import pytest
from folder import PRETEND, Folder
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState
from servers import Mlflow, Postgres, postgres_programs

BRIDGE = f"sweep{os.getpid() % 100_000}"  # an interface has at most 15 characters
SUBNET = f"10.77.{os.getpid() % 250}"  # two of these clusters may be at work
GATEWAY = f"{SUBNET}.1"
GRACE = 6  # seconds until a host is taken for dead
MARKS = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # connections of MLflow and Optuna
    pytest.mark.skipif(postgres_programs() is None, reason="needs PostgreSQL: apt-get install postgresql"),
]


def namespaces_allowed() -> bool:
    """Whether this user may make network namespaces."""
    return (
        os.getuid() == 0
        and shutil.which("ip") is not None
        and not _quiet("ip", "link", "add", BRIDGE, "type", "bridge")
    )


def _quiet(*command: str) -> int:
    return subprocess.run(command, check=False, capture_output=True).returncode


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Network:
    """A bridge with the servers at its address, and a cable to each host."""

    def __init__(self) -> None:
        _ip("addr", "add", f"{GATEWAY}/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        self.names: list[str] = []

    def join(self) -> str:
        """A new namespace, by name."""
        number = len(self.names) + 2
        name = f"{BRIDGE}-{number}"  # of its cable, too
        self.names.append(name)
        _ip("netns", "add", name)
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", name, "master", BRIDGE, "up")
        _ip("-n", name, "addr", "add", f"{SUBNET}.{number}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        return name

    def cut(self, name: str, *, off: bool = True) -> None:
        """Take the cable out, or put it back."""
        _ip("link", "set", name, "down" if off else "up")

    def close(self) -> None:
        for name in self.names:
            _quiet("ip", "netns", "del", name)
        _quiet("ip", "link", "del", BRIDGE)


@dataclass
class Host(Folder):
    """A folder in which the command is run, on a host of its own."""

    namespace: str = ""

    def command(self, *arguments: str) -> list[str]:
        inside = ["ip", "netns", "exec", self.namespace] if self.namespace else []
        return [*inside, sys.executable, "-m", "svhn_sweep", *arguments]

    def kill(self) -> None:
        """As a power cut does: driver and workers at once."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                ours = b"svhn_sweep" in (process / "cmdline").read_bytes() and (process / "cwd").readlink() == self.path
            except OSError:  # it has ended meanwhile
                continue
            if ours:
                os.kill(int(process.name), signal.SIGKILL)


@dataclass
class Cluster:
    """Two servers and any number of hosts."""

    folder: Path
    postgres: Postgres
    mlflow: Mlflow
    environment: dict[str, str]
    network: Network | None
    hosts: list[Host] = field(default_factory=list)
    storage: optuna.storages.RDBStorage | None = None

    def host(self, *, pretend: bool = True, folder: Path | None = None, **environment: str) -> Host:
        """A new one; `pretend`: its workers sleep instead of training; `folder`: that several share."""
        path = folder or self.folder / f"host-{len(self.hosts)}"
        path.mkdir(exist_ok=True)
        known = self.environment | self.postgres.environment | self.mlflow.environment | environment
        known["PYTHONPATH"] = os.pathsep.join([str(PRETEND)] * pretend + [str(PRETEND.parents[1])])
        namespace = self.network.join() if self.network is not None else ""
        self.hosts.append(Host(path, known, namespace=namespace))
        return self.hosts[-1]

    def study(self, name: str) -> optuna.Study:
        if self.storage is None:
            address = self.postgres.storage.replace("@", f":{self.postgres.password}@")
            self.storage = optuna.storages.RDBStorage(address, engine_kwargs={"pool_pre_ping": True})
        return optuna.load_study(study_name=name, storage=self.storage)

    def runs(self, study: str) -> list[Run]:
        """What MLflow shows of a study's trials and of itself, without what was dropped."""
        client = MlflowClient(self.mlflow.address)
        experiment = client.get_experiment_by_name("svhn-synthetic") or client.get_experiment_by_name("svhn")
        assert experiment is not None
        same = f"tags.study = '{study}' and tags.role != 'dropped'"
        return list(client.search_runs([experiment.experiment_id], same, max_results=1000))

    def close(self) -> None:
        for host in self.hosts:
            host.kill()
            for process in host.started:
                process.communicate()
        if self.storage is not None:
            self.storage.engine.dispose()
        self.mlflow.stop()
        self.postgres.stop()
        if self.network is not None:
            self.network.close()


@contextmanager
def started(environment: dict[str, str]) -> Iterator[Cluster]:
    """A cluster without hosts yet; this process asks its MLflow, too."""
    network = Network() if namespaces_allowed() else None
    with tempfile.TemporaryDirectory(prefix="svhn_sweep") as name:
        folder = Path(name)
        folder.chmod(0o755)  # for PostgreSQL's user
        for each in ("postgres", "mlflow"):
            (folder / each).mkdir()
        host = GATEWAY if network is not None else "127.0.0.1"
        postgres = Postgres(folder / "postgres", host)
        postgres.create()
        mlflow = Mlflow(folder / "mlflow", postgres, host)
        cluster = Cluster(folder, postgres, mlflow, environment, network)
        try:
            mlflow.start()
            with pytest.MonkeyPatch.context() as patch:
                for key, value in mlflow.environment.items():
                    patch.setenv(key, value)
                yield cluster
        finally:
            cluster.close()


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


def running(cluster: Cluster, study: str) -> list[FrozenTrial]:
    try:
        return [trial for trial in cluster.study(study).trials if trial.state == TrialState.RUNNING]
    except KeyError:  # not yet created
        return []


def journals(host: Host, study: str) -> list[Path]:
    """Of the trials that its workers have begun."""
    return list(host.path.glob(f"multirun/{study}/trial-*/journal.jsonl"))
