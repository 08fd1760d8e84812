"""Sweeps on a real Ray cluster that loses workers, nodes, the head or the driver."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from ray_sweeps import Cluster, assert_whole, finish, tags_of, wait_for_nodes, wait_until

from svhn_sweep.tracking import upload_state

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_no_finished_epoch_is_lost_or_trained_twice_with_a_worker_or_a_node(
    ray_networks: Cluster,
) -> None:
    """A worker is killed, a node joins, the first node is cut off and returns, if it can be."""
    nodes = ray_networks.nodes
    # It is slow, so that it still trains when the other one does.
    first = nodes.join("first", cpus=1, environment={"PRETEND_SECONDS": "2"})
    process = ray_networks.start(n_trials=3, epochs=6)
    wait_until(lambda: ray_networks.epochs_of(0) >= 1)
    nodes.join("second", cpus=1)  # while the sweep runs
    (worker,) = first.workers()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: first.workers() not in ([], [worker]))
    wait_until(lambda: ray_networks.epochs_of(1) >= 1)
    scratch = list((nodes.folder / first.name).rglob("svhn_sweep-*"))
    # The dead worker's folder is removed.
    assert [path.name for path in scratch] == [f"svhn_sweep-{first.workers()[0]}"]
    before = interruptions(ray_networks)
    first.cut() if nodes.networks else first.kill()
    wait_until(lambda: interruptions(ray_networks) > before)
    if nodes.networks:
        first.cut(off=False)
    output = finish(process)
    assert "node second joined: 1 worker\n" in output
    assert "the worker on node first ended unexpectedly" in output
    assert "node first is gone\n" in output
    assert "(raylet)" not in output
    starts = re.findall(r"trial 0  starts at epoch (\d+)/6", output)
    assert len(starts) >= 2
    assert sorted(map(int, starts)) == list(map(int, starts))
    assert int(starts[-1]) > 1
    assert_whole(ray_networks, 3, epochs=6)
    assert {tag["visible"] for tag in tags_of(ray_networks)} == {"-1"}


def interruptions(cluster: Cluster) -> int:
    """Returns how often trials were interrupted, by their journals."""
    journals = cluster.folder.path.glob("multirun/study/trial-*/journal.jsonl")
    return sum(path.read_text().count('"interrupted"') for path in journals)


def test_a_trial_moves_from_a_node_with_a_full_disk_to_another(ray_cluster: Cluster) -> None:
    ray_cluster.nodes.join("full", cpus=1, environment={"PRETEND_DISK": "full"})
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
    output = finish(ray_cluster.start(n_trials=2))
    assert "node small had too little memory" in output
    assert "1 of 2 workers from now on" in output
    assert_whole(ray_cluster, 2)


def total_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available_memory() -> float:
    """Returns the share of the memory that is available, 0..1."""
    values = dict(re.findall(r"(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text()))
    return int(values["MemAvailable"]) * 1024 / total_memory()


def test_actors_end_with_their_driver_and_the_same_command_continues_on_any_cluster(
    ray_cluster: Cluster,
) -> None:
    """The driver is killed, then terminated, then the head is killed: the module's last test.

    Ray's own handler of SIGTERM must not run. The cluster's token is in no command line, file or
    output.
    """
    hurry = ray_cluster.folder.python_begins_with(
        "if 'optuna' in sys.orig_argv:\n"
        "    from svhn_sweep.sweep.workers.ray import nodes\n"
        "    nodes.HEAD_TIMEOUT_SECONDS = 3.0\n",
        pretend=True,
    )
    ray_cluster.folder.environment = ray_cluster.folder.environment | hurry
    # An epoch takes longer than the scheduler waits for an event.
    node = ray_cluster.nodes.join("node", cpus=2, environment={"PRETEND_SECONDS": "1.5"})
    process = start_and_wait_for_an_epoch(ray_cluster)
    wait_until(lambda: len(node.workers()) == 2)
    process.kill()
    wait_until(lambda: node.workers() == [], seconds=10)

    process = start_and_wait_for_an_epoch(ray_cluster)
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (143, "svhn_sweep: interrupted\n")
    assert "The same command continues" in out
    wait_until(lambda: node.workers() == [], seconds=10)
    assert {run.info.status for run in ray_cluster.folder.runs()} == {"KILLED"}

    process = start_and_wait_for_an_epoch(ray_cluster)
    ray_cluster.nodes.nodes[0].kill()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert re.fullmatch(
        r"svhn_sweep: Ray's (node|head) .* same command continues, on another cluster .*\n", err
    )
    assert {run.info.status for run in ray_cluster.folder.runs()} == {"KILLED"}

    ray_cluster.nodes.stop()
    ray_cluster.nodes.start(cpus=2)
    output = finish(ray_cluster.start(n_trials=2, epochs=24))
    assert re.search(r"trial 0  starts at epoch ([2-9]|[12]\d)/24", output)
    assert_whole(ray_cluster, 2, epochs=24)
    assert token_in(ray_cluster, commands, [out, output]) == []


def start_and_wait_for_an_epoch(cluster: Cluster) -> "subprocess.Popen[str]":
    """Starts a sweep of two trials and waits until MLflow has one more epoch of the first."""
    epochs_before = cluster.epochs_of(0)
    started = time.time()
    process = cluster.start(n_trials=2, epochs=24)
    wait_until(lambda: cluster.epochs_of(0) > epochs_before)
    upload = cluster.trial_folder(0) / upload_state.FILE_NAME
    wait_until(lambda: upload.exists() and upload.stat().st_mtime > started)
    return process


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
