"""Devices of local workers, and worker processes: real ones, which really start and end."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from folder import PRETEND

from svhn_sweep import machine
from svhn_sweep.errors import ConfigError
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.workers.local import LocalMachine, LocalWorker
from svhn_sweep.sweep.workers.protocol import NodeFault, TrainRequest, WorkerExited, WorkerReady
from svhn_sweep.tracking.run_info import RunInfo

StandIn = Callable[[str], LocalWorker]

EXIT_TIMEOUT_SECONDS = 20.0  # for a worker to end after its driver
RUN = RunInfo("trial", "svhn", "", {})
# A worker that has loaded TensorFlow answers it at once.
INVALID = TrainRequest(("modle=model1",), (), Path("trial"), RUN, "")


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[[str], LocalWorker]]:
    """`worker("cpu")` starts a worker, which is killed after the test."""
    started: list[LocalWorker] = []

    def start(device: str) -> LocalWorker:
        started.append(LocalWorker(device, tmp_path / "workers.log", max_trials=3))
        return started[-1]

    yield start
    for worker in started:
        worker.process.kill()
        worker.close(0)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """`stand_in("exit 3")` starts a shell script in place of a worker."""
    started: list[LocalWorker] = []

    def start(script: str) -> LocalWorker:
        python = tmp_path / "python"
        python.write_text(f"#!/bin/bash\n{script}\n")
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        started.append(LocalWorker("cpu", tmp_path / "workers.log", max_trials=3))
        return started[-1]

    yield start
    for worker in started:
        worker.process.kill()
        worker.close(0)


def environment_of(pid: int) -> dict[str, str]:
    """The environment that a process started with."""
    path = Path(f"/proc/{pid}/environ")
    while not (text := path.read_text()):  # it has not called exec yet
        time.sleep(0.001)
    return dict(line.split("=", 1) for line in text.split("\0") if line)


def has_ended(pid: int) -> bool:
    """Whether a process has ended, even if its parent has not waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def ends_in_time(pid: int) -> bool:
    end = time.monotonic() + EXIT_TIMEOUT_SECONDS
    while time.monotonic() < end and not has_ended(pid):
        time.sleep(0.02)
    return has_ended(pid)


def local_machine(
    workers: str = "auto", workers_per_gpu: str = "auto", devices: list[str] | None = None
) -> LocalMachine:
    settings = SweeperConfig(workers=workers, workers_per_gpu=workers_per_gpu, devices=devices)
    return LocalMachine(settings, Path("workers.log"))


# slots


@pytest.mark.parametrize(
    ("cores", "gpus", "workers", "per_gpu", "devices", "expected"),
    [
        # cores, GPUs that the machine has; workers, workers_per_gpu, devices as set
        (1, "", "auto", "1", None, (("cpu",), 1)),
        (4, "", "auto", "1", None, (("cpu",) * 4, 1)),
        (4, "", "auto", "3", None, (("cpu",) * 4, 1)),
        (8, "", "2", "1", None, (("cpu",) * 2, 4)),
        (8, "", "3", "1", None, (("cpu",) * 3, 2)),
        (2, "", "5", "1", None, (("cpu",) * 5, 1)),
        (16, "0", "auto", "1", None, (("0",), 16)),
        (16, "0 1", "auto", "1", None, (("0", "1"), 8)),
        (16, "0 1", "auto", "2", None, (("0", "1", "0", "1"), 4)),
        (16, "0 1", "1", "1", None, (("0",), 16)),
        (16, "0 1", "3", "1", None, (("0", "1", "0"), 5)),
        (16, "GPU-8f1a", "auto", "2", None, (("GPU-8f1a",) * 2, 8)),
        (16, "0", "auto", "auto", None, (("0",) * 4, 4)),
        (3, "0", "auto", "auto", None, (("0",) * 3, 1)),
        (4, "0 1", "auto", "auto", None, (("0", "1", "0", "1"), 1)),
        (1, "0 1", "auto", "auto", None, (("0", "1"), 1)),
        (4, "", "auto", "auto", None, (("cpu",) * 4, 1)),
        # with `devices`
        (4, "0 1", "auto", "1", ["cpu"], (("cpu",) * 4, 1)),
        (4, "0 1", "2", "1", ["cpu"], (("cpu",) * 2, 2)),
        (16, "0 1 2 3", "auto", "1", ["1", "3"], (("1", "3"), 8)),
        (16, "0 1 2 3", "auto", "2", ["3"], (("3", "3"), 8)),
        (16, "0 1 2 3", "3", "1", ["1", "3"], (("1", "3", "1"), 5)),
        (4, "", "auto", "1", ["0"], (("0",), 4)),  # a GPU may exist without nvidia-smi
    ],
)
def test_each_worker_has_a_device_and_its_share_of_the_cores(
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    gpus: str,
    workers: str,
    per_gpu: str,
    devices: list[str] | None,
    expected: tuple[tuple[str, ...], int],
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setattr(machine, "visible_gpus", gpus.split)
    local = local_machine(workers=workers, workers_per_gpu=per_gpu, devices=devices)
    assert (local.devices, local.threads) == expected
    assert [slot.device for slot in local.slots()] == list(expected[0])
    assert len(set(local.slots())) == len(expected[0])


@pytest.mark.parametrize(
    ("devices", "listed"),
    [(["cpu", "0"], "cpu,0"), (["0", "cpu", "1"], "0,cpu,1"), (["cpu"] * 2, "cpu,cpu")],
)
def test_devices_that_mix_the_cpu_with_gpus_are_refused(devices: list[str], listed: str) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"^hydra\.sweeper\.devices must be \[cpu\] or GPUs but got \[{listed}\]\.$",
    ):
        local_machine(devices=devices)


def test_a_gpu_that_is_named_twice_is_refused() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^hydra\.sweeper\.devices must have each GPU once but got \[0,1,0\]; hydra",
    ):
        local_machine(devices=["0", "1", "0"])


def test_a_gpu_that_nvidia_smi_does_not_list_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "visible_gpus", lambda: ["0", "1"])
    with pytest.raises(
        ConfigError,
        match=r"^hydra\.sweeper\.devices must be among the GPUs 0, 1 but got \[1,7\]\.$",
    ):
        local_machine(devices=["1", "7"])


@pytest.mark.parametrize(
    ("trained", "threads", "expected"),
    [([], 2, True), ([2], 2, True), ([2, 2], 2, True), ([2], 1, False), ([1, 1, 1], 1, False)],
)
def test_a_worker_trains_its_maximum_of_trials_with_one_number_of_threads(
    stand_in: StandIn, trained: list[int], threads: int, expected: bool
) -> None:
    worker = stand_in("sleep 600")
    for n_threads in trained:
        worker.train(INVALID, n_threads)
    assert worker.can_train(threads) == expected


# a worker


@pytest.mark.parametrize(
    ("device", "visible"), [("cpu", "-1"), ("0", "0"), ("3", "3"), ("GPU-8f1a", "GPU-8f1a")]
)
def test_a_worker_sees_its_own_device_only(
    worker: Callable[[str], LocalWorker], monkeypatch: pytest.MonkeyPatch, device: str, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setenv("SOMETHING", "else")
    environment = environment_of(worker(device).process.pid)
    assert environment["CUDA_VISIBLE_DEVICES"] == visible
    assert environment["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert environment["SOMETHING"] == "else"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"


@pytest.mark.parametrize(
    ("script", "external", "reason"),
    [
        # external causes
        ("kill -KILL $$", True, "the worker was ended by SIGKILL"),
        ("kill -TERM $$", True, "the worker was ended by SIGTERM"),
        ("exit 130", True, "the worker was ended by SIGINT"),
        ("exit 129", True, "the worker was ended by SIGHUP"),
        ("exit 137", True, "the worker was ended by SIGKILL"),
        ("exit 143", True, "the worker was ended by SIGTERM"),
        # crashes and exits of its own
        ("kill -SEGV $$", False, "the worker was ended by SIGSEGV"),
        ("kill -ABRT $$", False, "the worker was ended by SIGABRT"),
        ("kill -BUS $$", False, "the worker was ended by SIGBUS"),
        ("exit 139", False, "the worker was ended by SIGSEGV"),
        ("exit 0", False, "the worker ended with exit code 0"),
        ("exit 1", False, "the worker ended with exit code 1"),
        ("exit 3", False, "the worker ended with exit code 3"),
        ("exit 128", False, "the worker ended with exit code 128"),
        ("exit 255", False, "the worker ended with exit code 255"),
    ],
)
def test_the_exit_of_a_worker_is_described_with_its_cause(
    stand_in: StandIn, script: str, external: bool, reason: str
) -> None:
    worker = stand_in(f"ulimit -c 0; {script}")
    assert worker.next_event() == WorkerExited(external, reason)


def test_stderr_of_all_workers_is_appended_to_the_log(stand_in: StandIn, tmp_path: Path) -> None:
    for text in ("one", "two"):
        stand_in(f"echo {text}; echo {text} >&2").process.wait()
    assert (tmp_path / "workers.log").read_text() == "one\ntwo\n"


def test_a_trial_for_a_worker_that_has_ended_results_in_its_exit(stand_in: StandIn) -> None:
    worker = stand_in("exit 1")
    worker.process.wait()
    worker.train(INVALID, 1)
    assert worker.next_event() == WorkerExited(False, "the worker ended with exit code 1")


@pytest.mark.parametrize(
    "script", ["exec sleep 600", "trap '' TERM; while true; do sleep 0.1; done"]
)
def test_close_ends_a_worker_even_if_it_ignores_sigterm(stand_in: StandIn, script: str) -> None:
    worker = stand_in(script)
    worker.process.terminate()
    worker.close(0.5)
    assert worker.process.returncode in (-signal.SIGTERM, -signal.SIGKILL)
    assert worker.connection.closed


@pytest.mark.slow
def test_a_worker_lives_until_its_driver_closes_the_connection(
    worker: Callable[[str], LocalWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PRETEND))
    busy = worker("cpu")
    assert (busy.is_ready, busy.next_event(), busy.is_ready) == (False, WorkerReady(), True)
    for _ in range(2):  # an invalid trial does not end it
        busy.train(INVALID, 1)
        answer = busy.next_event()
        assert isinstance(answer, NodeFault)
        assert "modle" in answer.reason
    assert (busy.trials, busy.process.poll()) == (2, None)
    busy.process.send_signal(signal.SIGINT)  # the driver alone handles Ctrl-C
    busy.train(INVALID, 1)
    assert isinstance(busy.next_event(), NodeFault)
    other = worker("cpu")  # started later; it must not inherit the first one's connection
    busy.connection.close()
    assert ends_in_time(busy.process.pid)
    assert other.process.poll() is None


@pytest.mark.slow
# while Python starts, while modules are imported, while TensorFlow is loaded
@pytest.mark.parametrize("delay", [0.1, 1.0, 2.0])
def test_a_worker_can_be_terminated_while_it_starts(
    worker: Callable[[str], LocalWorker], delay: float
) -> None:
    loading = worker("cpu")
    time.sleep(delay)
    loading.process.terminate()
    loading.close(10)
    assert loading.next_event() == WorkerExited(True, "the worker was ended by SIGTERM")
