"""Sweeps on a real Ray cluster: nodes that see nothing of the driver's, that come, go, are refused, and are cut off."""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from folder import PRETEND, Folder
from optuna.trial import FrozenTrial, TrialState
from ray_nodes import Node, RayNodes, namespaces_allowed, ray_nodes

from svhn_sweep.tracking import journal

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EPOCHS = 4
DRY_RUN = "hydra.sweeper.dry_run=true"
PRETENDING = {"PYTHONPATH": os.pathsep.join([str(PRETEND), str(PRETEND.parents[1])]), "PRETEND_SECONDS": "0.5"}


class Cluster:
    """A cluster, and the folder in which sweeps on it are started."""

    def __init__(self, nodes: RayNodes, folder: Folder, digits: Path) -> None:
        self.nodes, self.folder, self.digits = nodes, folder, digits
        folder.environment = nodes.environment

    def sweep(self, *more: str, n_trials: int = 4, epochs: int = EPOCHS) -> tuple[str, ...]:
        """The command's arguments."""
        small = ("model=model1", "model.filters.conv1=2", "model.filters.conv2=2", f"training.epochs={epochs}")
        plain = ("hydra.sweeper.confirm=null", "hydra.sweeper.pruner.name=none", "hydra.sweeper.study_name=study")
        where = (f"hydra.sweeper.cluster={self.nodes.address}", f"hydra.sweeper.n_trials={n_trials}")
        return ("-m", "optuna", "data=svhn", f"data.path={self.digits}", *small, *plain, *where, *more)

    def start(self, *more: str, n_trials: int = 4, epochs: int = EPOCHS) -> "subprocess.Popen[str]":
        return self.folder.start(*self.sweep(*more, n_trials=n_trials, epochs=epochs))

    def trial_folder(self, number: int) -> Path:
        return self.folder.path / "multirun" / "study" / f"trial-{number:04d}"

    def epochs_of(self, number: int) -> int:
        return max(journal.history(self.trial_folder(number)), default=0)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Ray's sockets must have short names, pytest's folders have long ones."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def head(plain_environment: dict[str, str]) -> Iterator[RayNodes]:
    """A head whose nodes have workers that sleep instead of training, 0.5 s an epoch."""
    with (
        tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as name,
        ray_nodes(Path(name), plain_environment | PRETENDING) as nodes,
    ):
        yield nodes


@pytest.fixture
def pretending(head: RayNodes, folder: Folder, small_h5: Path) -> Iterator[Cluster]:
    """A cluster without a node yet."""
    yield Cluster(head, folder, small_h5)
    for node in head.nodes[1:]:
        node.kill()
    del head.nodes[1:]


@pytest.fixture
def networks(short_path: Path, folder: Folder, plain_environment: dict[str, str], small_h5: Path) -> Iterator[Cluster]:
    """The same, each node in a network of its own."""
    if not namespaces_allowed():
        pytest.skip("needs network namespaces: root and iproute2")
    with ray_nodes(short_path, plain_environment | PRETENDING, networks=True) as nodes:
        yield Cluster(nodes, folder, small_h5)


def finish(process: "subprocess.Popen[str]", seconds: float = 240) -> str:
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, out + err
    assert err == ""
    return out


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    for _ in range(int(seconds * 10)):
        if condition():
            return
        time.sleep(0.1)
    raise TimeoutError


def trials(folder: Folder) -> list[FrozenTrial]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder.path}/optuna.db")
    try:
        return list(optuna.load_study(study_name="study", storage=storage).trials)
    finally:
        storage.engine.dispose()


def assert_whole(cluster: Cluster, n_trials: int, epochs: int = EPOCHS) -> None:
    """Exactly the budget, each trial once in Optuna and once in MLflow, with a curve that has no gap; one parent."""
    found = trials(cluster.folder)
    assert Counter(trial.state for trial in found) == {TrialState.COMPLETE: n_trials}
    runs = cluster.folder.runs()
    (parent,) = [run for run in runs if run.data.tags["role"] == "sweep"]
    children = {int(run.data.tags["trial.number"]): run for run in runs if run is not parent}
    assert len(runs) == n_trials + 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    for trial in found:
        assert sorted(trial.intermediate_values) == list(range(1, epochs + 1))
        steps = [step for step, _ in cluster.folder.history(children[trial.number], "val/accuracy")]
        assert steps == list(range(1, epochs + 1))


# what a node needs


def test_nodes_that_see_nothing_of_the_drivers_train_the_same(
    short_path: Path, folder: Folder, plain_environment: dict[str, str], small_h5: Path, tmp_path: Path
) -> None:
    """Not its folder, nor its data, nor its own configs: a sweep with a confirmation, `==` to one without Ray."""
    own = folder.path / "own" / "search_space"
    own.mkdir(parents=True)
    (own / "few.yaml").write_text("training.learning_rate: choice(1e-3,2e-3,4e-3)\n")
    arguments = (
        *(f"--config-dir={own.parent}", "-m", "optuna", "search_space=few", "model=model1", "training.epochs=2"),
        *("data=svhn", f"data.path={small_h5}", "model.filters.conv1=2", "training.threads=1"),
        *("hydra.sweeper.n_trials=3", "hydra.sweeper.confirm.seeds=2", "hydra.sweeper.sampler=random"),
        *("hydra.sweeper.study_name=study", "training.precision=float32"),
    )
    with ray_nodes(short_path, plain_environment) as nodes:
        nodes.join("blind", cpus=2, hidden=[folder.path, small_h5.parent])
        folder.environment = nodes.environment
        result = folder.run(*arguments, f"hydra.sweeper.cluster={nodes.address}")
    assert result.returncode == 0, result.stderr
    assert "2 workers on 1 node of Ray" in result.stdout
    assert "On test, read once" in result.stdout
    there = folder.path / "multirun"
    here = Folder(tmp_path / "local", dict(plain_environment))
    here.path.mkdir()
    result = here.run(*arguments, "hydra.sweeper.workers=2")
    assert result.returncode == 0, result.stderr
    folders = sorted(path.parent.relative_to(there) for path in there.rglob("trial-*/journal.jsonl"))
    assert folders == sorted(
        path.parent.relative_to(here.path / "multirun") for path in here.path.rglob("trial-*/journal.jsonl")
    )
    for each in folders:
        assert numbers(there / each) == numbers(here.path / "multirun" / each)
        assert files(there / each) == files(here.path / "multirun" / each)
    assert {run.info.status for run in folder.runs()} == {"FINISHED"}


def numbers(folder: Path) -> dict[int, dict[str, float]]:
    """Every metric of a trial but its time."""
    known = journal.history(folder)
    return {step: {key: value for key, value in m.items() if key != "epoch_seconds"} for step, m in known.items()}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_node_with_other_versions_is_refused(pretending: Cluster, tmp_path: Path) -> None:
    metadata = tmp_path / "other" / "seaborn-0.1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: seaborn\nVersion: 0.1\n")
    path = os.pathsep.join([str(metadata.parent), PRETENDING["PYTHONPATH"]])
    pretending.nodes.join("old", environment={"PYTHONPATH": path})
    result = pretending.folder.run(*pretending.sweep())
    assert result.returncode == 2
    assert re.fullmatch(
        r"svhn_sweep: no node of the Ray cluster can be used: node old is refused: its seaborn is 0\.1, the driver's "
        r"[\d.]+\.\n",
        result.stderr,
    )
    pretending.nodes.join("new")
    wait_for_nodes(pretending, 2)
    shown = finish(pretending.start())
    assert "2 workers on 1 node of Ray" in shown
    assert_whole(pretending, 4)


def test_a_cluster_that_lets_nobody_in_is_one_sentence(pretending: Cluster) -> None:
    secret = Path(pretending.nodes.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    other = pretending.folder.path / "other-token"
    other.write_text("0" * 64)
    sweep = pretending.sweep()
    nowhere = tuple(each.replace(pretending.nodes.address, "127.0.0.1:1") for each in sweep)
    for arguments, environment in ((sweep, {"RAY_AUTH_TOKEN_PATH": str(other)}), (nowhere, {})):
        result = pretending.folder.run(*arguments, **environment)
        assert result.returncode == 2
        assert result.stderr.startswith("svhn_sweep: hydra.sweeper.cluster must be a running Ray cluster, of which ")
        assert len(result.stderr.splitlines()) == 1
        assert secret not in result.stdout + result.stderr


# devices


def test_a_gpu_is_shared_by_workers_that_see_it_alone(pretending: Cluster) -> None:
    pretending.nodes.join("gpus", cpus=4, gpus=2)
    shown = finish(pretending.start("hydra.sweeper.workers_per_gpu=2", n_trials=8))
    assert "4 workers on 2 GPUs of 1 node of Ray" in shown
    assert_whole(pretending, 8)
    seen = [run.data.tags["visible"] for run in pretending.folder.runs() if run.data.tags["role"] != "sweep"]
    assert set(seen) == {"0", "1"}
    workers = {(tag["visible"], tag["pid"]) for tag in tags_of(pretending)}
    assert Counter(device for device, _ in workers) == {"0": 2, "1": 2}


def tags_of(cluster: Cluster) -> list[dict[str, str]]:
    return [run.data.tags for run in cluster.folder.runs() if run.data.tags["role"] != "sweep"]


def test_a_node_without_gpus_has_a_worker_for_each_core_or_as_many_as_are_wanted(pretending: Cluster) -> None:
    pretending.nodes.join("one", cpus=3)
    pretending.nodes.join("two", cpus=1)
    wait_for_nodes(pretending, 2)
    assert "4 workers on 2 nodes of Ray" in pretending.folder.run(*pretending.sweep(DRY_RUN)).stdout
    shown = finish(pretending.start("hydra.sweeper.workers=2"))
    assert "2 workers on 2 nodes of Ray" in shown  # spread
    assert len({tag["pid"] for tag in tags_of(pretending)}) == 2
    assert {tag["visible"] for tag in tags_of(pretending)} == {"-1"}


def wait_for_nodes(cluster: Cluster, count: int) -> None:
    started = "Ray runtime started"
    logs = cluster.nodes.folder
    names = [node.name for node in cluster.nodes.nodes if node.name != "head"]
    assert len(names) == count
    wait_until(lambda: all(started in (logs / f"{name}.log").read_text() for name in names))


# what fails


def test_nodes_that_join_work_and_dead_workers_and_nodes_cost_no_finished_epoch(pretending: Cluster) -> None:
    first = pretending.nodes.join("first", cpus=1)
    process = pretending.start(n_trials=4, epochs=10)
    wait_until(lambda: pretending.epochs_of(0) >= 1)
    (worker,) = first.workers()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: first.workers() not in ([], [worker]))
    pretending.nodes.join("second", cpus=1)  # in the middle
    wait_until(lambda: pretending.epochs_of(1) >= 1)
    left = leftovers(first, pretending.nodes.folder)
    assert [path.name for path in left] == [f"svhn_sweep-{first.workers()[0]}"]  # not the dead worker's
    first.kill()
    shown = finish(process)
    assert "node second joined: 1 worker\n" in shown
    assert "the worker on node first ended unexpectedly" in shown
    assert "node first is gone\n" in shown
    assert "(raylet)" not in shown
    starts = re.findall(r"trial 0  starts at epoch (\d+)/10", shown)
    assert len(starts) >= 2
    assert sorted(map(int, starts)) == list(map(int, starts))
    assert int(starts[-1]) > 1
    assert_whole(pretending, 4, epochs=10)


def leftovers(node: Node, folder: Path) -> list[Path]:
    return list((folder / node.name).rglob("svhn_sweep-*"))


def test_a_node_that_is_cut_off_and_comes_back_trains_nothing_twice(networks: Cluster) -> None:
    lonely = networks.nodes.join("lonely", cpus=1)
    networks.nodes.join("other", cpus=1)
    process = networks.start(n_trials=3, epochs=10)
    wait_until(lambda: networks.epochs_of(0) >= 1 and networks.epochs_of(1) >= 1)
    lonely.cut()
    time.sleep(10)
    lonely.cut(off=False)
    shown = finish(process)
    assert "node lonely is gone\n" in shown
    assert_whole(networks, 3, epochs=10)


def test_actors_end_with_their_driver_and_the_same_command_continues(pretending: Cluster) -> None:
    """Killed, then terminated: Ray's own handler of SIGTERM must not take over. And no secret is seen anywhere."""
    node = pretending.nodes.join("node", cpus=2)
    process = pretending.start(n_trials=3, epochs=12)
    wait_until(lambda: pretending.epochs_of(0) >= 1)
    assert len(node.workers()) == 2
    process.kill()
    wait_until(lambda: node.workers() == [], seconds=10)
    known = pretending.epochs_of(0)
    process = pretending.start(n_trials=3, epochs=12)
    wait_until(lambda: pretending.epochs_of(0) > known)
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (143, "svhn_sweep: interrupted\n")
    assert "The same command continues" in out
    wait_until(lambda: node.workers() == [], seconds=10)
    assert {run.info.status for run in pretending.folder.runs()} == {"KILLED"}
    shown = finish(pretending.start(n_trials=3, epochs=12))
    assert re.search(r"trial 0  starts at epoch ([2-9]|1[0-2])/12", shown)
    assert_whole(pretending, 3, epochs=12)
    assert secret_in(pretending, commands, [out, shown]) == []


def secret_in(cluster: Cluster, commands: list[bytes], shown: list[str]) -> list[object]:
    """Where the token is: commands that everybody on the machine can read, files, logs."""
    token = Path(cluster.nodes.environment["RAY_AUTH_TOKEN_PATH"])
    secret = token.read_bytes()
    files = [path for root in (cluster.folder.path, cluster.nodes.folder) for path in root.rglob("*")]
    contents = {path: path.read_bytes() for path in files if path.is_file() and path != token}
    assert len(contents) > 20
    found: list[object] = [path for path, content in contents.items() if secret in content]
    return found + [each for each in [*commands, *(text.encode() for text in shown)] if secret in each]


def test_without_its_head_a_sweep_ends_and_goes_on_in_another_cluster(
    short_path: Path, folder: Folder, plain_environment: dict[str, str], small_h5: Path
) -> None:
    with ray_nodes(short_path, plain_environment | PRETENDING) as nodes:
        cluster = Cluster(nodes, folder, small_h5)
        nodes.join("node", cpus=2)
        process = cluster.start(n_trials=3, epochs=8)
        wait_until(lambda: cluster.epochs_of(0) >= 1)
        nodes.nodes[0].kill()
        _, err = process.communicate(timeout=120)
        assert process.returncode == 1
        assert re.fullmatch(r"svhn_sweep: Ray's (node|head) .* same command continues, on another cluster .*\n", err)
        assert {run.info.status for run in folder.runs()} == {"KILLED"}
        nodes.stop()
        nodes.start(cpus=2)
        shown = finish(cluster.start(n_trials=3, epochs=8))
    assert re.search(r"trial 0  starts at epoch [2-8]/8", shown)
    assert_whole(cluster, 3, epochs=8)


def test_a_node_with_a_full_disk_gets_no_more_trials(pretending: Cluster) -> None:
    pretending.nodes.join("full", cpus=1, environment={"PRETEND_DISK": "full"})
    process = pretending.start(n_trials=2)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.startswith("svhn_sweep: no worker can go on: on node full: OSError: [Errno 28] No space left on device")
    assert err.endswith("; the same command continues.\n")
    pretending.nodes.join("other", cpus=1)
    wait_for_nodes(pretending, 2)
    shown = finish(pretending.start(n_trials=2))
    assert "interrupted: on node full: OSError: [Errno 28] No space left on device" in shown
    assert_whole(pretending, 2)


def test_a_node_without_memory_trains_less_at_once(pretending: Cluster) -> None:
    """Ray kills its newest worker there: the trial goes on once there is room."""
    used = 1 - available_memory()
    limits = {"RAY_memory_usage_threshold": f"{used + 0.13:.3f}", "RAY_memory_monitor_refresh_ms": "100"}
    bytes_each = {"PRETEND_BYTES": str(int(0.08 * total_memory()))}
    pretending.nodes.join("small", cpus=2, environment=limits | bytes_each)
    shown = finish(pretending.start(n_trials=3))
    assert "node small had too little memory" in shown
    assert "1 of 2 workers from now on" in shown
    assert_whole(pretending, 3)


def total_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available_memory() -> float:
    """The share of the memory that is free for use."""
    values = dict(re.findall(r"(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text()))
    return int(values["MemAvailable"]) * 1024 / total_memory()
