"""Sweeps on a real Ray cluster that loses workers, nodes, the head or the driver."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from folder import Folder
from ray_nodes import Node, ray_nodes
from ray_sweeps import PRETENDING, Cluster, assert_whole, finish, wait_for_nodes, wait_until

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_node_that_joins_trains_and_no_finished_epoch_is_lost_with_a_worker_or_node(
    ray_cluster: Cluster,
) -> None:
    first = ray_cluster.nodes.join("first", cpus=1)
    process = ray_cluster.start(n_trials=4, epochs=10)
    wait_until(lambda: ray_cluster.epochs_of(0) >= 1)
    (worker,) = first.workers()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: first.workers() not in ([], [worker]))
    ray_cluster.nodes.join("second", cpus=1)  # while the sweep runs
    wait_until(lambda: ray_cluster.epochs_of(1) >= 1)
    scratch = scratch_folders(first, ray_cluster.nodes.folder)
    # The dead worker's folder is removed.
    assert [path.name for path in scratch] == [f"svhn_sweep-{first.workers()[0]}"]
    first.kill()
    output = finish(process)
    assert "node second joined: 1 worker\n" in output
    assert "the worker on node first ended unexpectedly" in output
    assert "node first is gone\n" in output
    assert "(raylet)" not in output
    starts = re.findall(r"trial 0  starts at epoch (\d+)/10", output)
    assert len(starts) >= 2
    assert sorted(map(int, starts)) == list(map(int, starts))
    assert int(starts[-1]) > 1
    assert_whole(ray_cluster, 4, epochs=10)


def scratch_folders(node: Node, folder: Path) -> list[Path]:
    return list((folder / node.name).rglob("svhn_sweep-*"))


def test_a_node_that_is_cut_off_and_returns_trains_no_epoch_twice(ray_networks: Cluster) -> None:
    remote = ray_networks.nodes.join("remote", cpus=1)
    ray_networks.nodes.join("other", cpus=1)
    process = ray_networks.start(n_trials=3, epochs=10)
    wait_until(lambda: ray_networks.epochs_of(0) >= 1 and ray_networks.epochs_of(1) >= 1)
    remote.cut()
    time.sleep(10)
    remote.cut(off=False)
    output = finish(process)
    assert "node remote is gone\n" in output
    assert_whole(ray_networks, 3, epochs=10)


def test_actors_end_with_their_driver_and_the_same_command_continues(ray_cluster: Cluster) -> None:
    """The driver is killed, then terminated: Ray's own handler of SIGTERM must not run.

    The cluster's token is in no command line, file or output.
    """
    # An epoch takes longer than the scheduler waits for an event.
    node = ray_cluster.nodes.join("node", cpus=2, environment={"PRETEND_SECONDS": "1.5"})
    process = ray_cluster.start(n_trials=2, epochs=8)
    wait_until(lambda: ray_cluster.epochs_of(0) >= 1)
    assert len(node.workers()) == 2
    process.kill()
    wait_until(lambda: node.workers() == [], seconds=10)
    epochs_before = ray_cluster.epochs_of(0)
    process = ray_cluster.start(n_trials=2, epochs=8)
    wait_until(lambda: ray_cluster.epochs_of(0) > epochs_before)
    time.sleep(0.5)
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (143, "svhn_sweep: interrupted\n")
    assert "The same command continues" in out
    wait_until(lambda: node.workers() == [], seconds=10)
    assert {run.info.status for run in ray_cluster.folder.runs()} == {"KILLED"}
    output = finish(ray_cluster.start(n_trials=2, epochs=8))
    assert re.search(r"trial 0  starts at epoch [2-8]/8", output)
    assert_whole(ray_cluster, 2, epochs=8)
    assert token_in(ray_cluster, commands, [out, output]) == []


def token_in(cluster: Cluster, commands: list[bytes], outputs: list[str]) -> list[object]:
    """Returns the files, command lines and outputs that contain the cluster's token."""
    token = Path(cluster.nodes.environment["RAY_AUTH_TOKEN_PATH"])
    secret = token.read_bytes()
    files = [
        path for root in (cluster.folder.path, cluster.nodes.folder) for path in root.rglob("*")
    ]
    contents = {path: path.read_bytes() for path in files if path.is_file() and path != token}
    assert len(contents) > 20
    texts = [*commands, *(output.encode() for output in outputs)]
    return [
        *(path for path, content in contents.items() if secret in content),
        *(text for text in texts if secret in text),
    ]


def test_a_sweep_without_its_head_ends_and_is_continued_on_another_cluster(
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
        assert re.fullmatch(
            r"svhn_sweep: Ray's (node|head) .* same command continues, on another cluster .*\n", err
        )
        assert {run.info.status for run in folder.runs()} == {"KILLED"}
        nodes.stop()
        nodes.start(cpus=2)
        output = finish(cluster.start(n_trials=3, epochs=8))
    assert re.search(r"trial 0  starts at epoch [2-8]/8", output)
    assert_whole(cluster, 3, epochs=8)


def test_a_node_with_a_full_disk_gets_no_more_trials(ray_cluster: Cluster) -> None:
    ray_cluster.nodes.join("full", cpus=1, environment={"PRETEND_DISK": "full"})
    process = ray_cluster.start(n_trials=2)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.startswith(
        "svhn_sweep: no worker can go on: on node full: OSError: [Errno 28] No space left on device"
    )
    assert err.endswith("; the same command continues.\n")
    ray_cluster.nodes.join("other", cpus=1)
    wait_for_nodes(ray_cluster, 2)
    output = finish(ray_cluster.start(n_trials=2))
    assert "interrupted: on node full: OSError: [Errno 28] No space left on device" in output
    assert_whole(ray_cluster, 2)


def test_a_node_with_too_little_memory_trains_fewer_trials_at_once(ray_cluster: Cluster) -> None:
    """Ray kills the newest worker of the node; its trial is resumed when memory is free.

    A worker takes 22 % of the memory and two are too many; other tests may take or free 11 %.
    """
    used = 1 - available_memory()
    limits = {
        "RAY_memory_usage_threshold": f"{used + 0.33:.3f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }
    allocation = {"PRETEND_BYTES": str(int(0.22 * total_memory()))}
    ray_cluster.nodes.join("small", cpus=2, environment=limits | allocation)
    output = finish(ray_cluster.start(n_trials=3))
    assert "node small had too little memory" in output
    assert "1 of 2 workers from now on" in output
    assert_whole(ray_cluster, 3)


def total_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available_memory() -> float:
    """Returns the share of the memory that is available, 0..1."""
    values = dict(re.findall(r"(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text()))
    return int(values["MemAvailable"]) * 1024 / total_memory()
