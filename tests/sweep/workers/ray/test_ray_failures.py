"""Sweeps on a real Ray cluster whose workers, nodes, head and driver come and go: nothing is
lost or done twice.
"""

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


def test_nodes_that_join_work_and_dead_workers_and_nodes_cost_no_finished_epoch(
    ray_cluster: Cluster,
) -> None:
    first = ray_cluster.nodes.join("first", cpus=1)
    process = ray_cluster.start(n_trials=4, epochs=10)
    wait_until(lambda: ray_cluster.epochs_of(0) >= 1)
    (worker,) = first.workers()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: first.workers() not in ([], [worker]))
    ray_cluster.nodes.join("second", cpus=1)  # in the middle
    wait_until(lambda: ray_cluster.epochs_of(1) >= 1)
    left = leftovers(first, ray_cluster.nodes.folder)
    assert [path.name for path in left] == [
        f"svhn_sweep-{first.workers()[0]}"
    ]  # not the dead worker's
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
    assert_whole(ray_cluster, 4, epochs=10)


def leftovers(node: Node, folder: Path) -> list[Path]:
    return list((folder / node.name).rglob("svhn_sweep-*"))


def test_a_node_that_is_cut_off_and_comes_back_trains_nothing_twice(ray_networks: Cluster) -> None:
    lonely = ray_networks.nodes.join("lonely", cpus=1)
    ray_networks.nodes.join("other", cpus=1)
    process = ray_networks.start(n_trials=3, epochs=10)
    wait_until(lambda: ray_networks.epochs_of(0) >= 1 and ray_networks.epochs_of(1) >= 1)
    lonely.cut()
    time.sleep(10)
    lonely.cut(off=False)
    shown = finish(process)
    assert "node lonely is gone\n" in shown
    assert_whole(ray_networks, 3, epochs=10)


def test_actors_end_with_their_driver_and_the_same_command_continues(ray_cluster: Cluster) -> None:
    """Killed, then terminated: Ray's own handler of SIGTERM must not take over. And no secret is
    seen anywhere.
    """
    node = ray_cluster.nodes.join(
        "node", cpus=2, environment={"PRETEND_SECONDS": "1.5"}
    )  # longer than a wait for it
    process = ray_cluster.start(n_trials=2, epochs=8)
    wait_until(lambda: ray_cluster.epochs_of(0) >= 1)
    assert len(node.workers()) == 2
    process.kill()
    wait_until(lambda: node.workers() == [], seconds=10)
    known = ray_cluster.epochs_of(0)
    process = ray_cluster.start(n_trials=2, epochs=8)
    wait_until(lambda: ray_cluster.epochs_of(0) > known)
    time.sleep(0.5)
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (143, "svhn_sweep: interrupted\n")
    assert "The same command continues" in out
    wait_until(lambda: node.workers() == [], seconds=10)
    assert {run.info.status for run in ray_cluster.folder.runs()} == {"KILLED"}
    shown = finish(ray_cluster.start(n_trials=2, epochs=8))
    assert re.search(r"trial 0  starts at epoch [2-8]/8", shown)
    assert_whole(ray_cluster, 2, epochs=8)
    assert secret_in(ray_cluster, commands, [out, shown]) == []


def secret_in(cluster: Cluster, commands: list[bytes], shown: list[str]) -> list[object]:
    """Where the token is: commands that everybody on the machine can read, files, logs."""
    token = Path(cluster.nodes.environment["RAY_AUTH_TOKEN_PATH"])
    secret = token.read_bytes()
    files = [
        path for root in (cluster.folder.path, cluster.nodes.folder) for path in root.rglob("*")
    ]
    contents = {path: path.read_bytes() for path in files if path.is_file() and path != token}
    assert len(contents) > 20
    found: list[object] = [path for path, content in contents.items() if secret in content]
    return found + [
        each for each in [*commands, *(text.encode() for text in shown)] if secret in each
    ]


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
        assert re.fullmatch(
            r"svhn_sweep: Ray's (node|head) .* same command continues, on another cluster .*\n", err
        )
        assert {run.info.status for run in folder.runs()} == {"KILLED"}
        nodes.stop()
        nodes.start(cpus=2)
        shown = finish(cluster.start(n_trials=3, epochs=8))
    assert re.search(r"trial 0  starts at epoch [2-8]/8", shown)
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
    shown = finish(ray_cluster.start(n_trials=2))
    assert "interrupted: on node full: OSError: [Errno 28] No space left on device" in shown
    assert_whole(ray_cluster, 2)


def test_a_node_without_memory_trains_less_at_once(ray_cluster: Cluster) -> None:
    """Ray kills its newest worker there: the trial goes on once there is room."""
    used = 1 - available_memory()
    limits = {
        "RAY_memory_usage_threshold": f"{used + 0.13:.3f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }
    bytes_each = {"PRETEND_BYTES": str(int(0.08 * total_memory()))}
    ray_cluster.nodes.join("small", cpus=2, environment=limits | bytes_each)
    shown = finish(ray_cluster.start(n_trials=3))
    assert "node small had too little memory" in shown
    assert "1 of 2 workers from now on" in shown
    assert_whole(ray_cluster, 3)


def total_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available_memory() -> float:
    """The share of the memory that is free for use."""
    values = dict(re.findall(r"(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text()))
    return int(values["MemAvailable"]) * 1024 / total_memory()
