"""Workers as processes of this machine: each has a device and a socket to the driver."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import cast

from svhn_sweep import machine
from svhn_sweep.config.schema import Precision
from svhn_sweep.errors import SweepError
from svhn_sweep.sweep.plan.formatting import format_items
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.workers.evaluation_requests import ModelsRequest, Result
from svhn_sweep.sweep.workers.limited_worker import LimitedWorker
from svhn_sweep.sweep.workers.local_devices import count_workers, local_devices
from svhn_sweep.sweep.workers.protocol import (
    CPU,
    STOP_TIMEOUT_SECONDS,
    Slot,
    TrainRequest,
    TrialEnded,
    Worker,
    WorkerEvent,
    WorkerExited,
    WorkerReady,
)

EXTERNAL_SIGNALS = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
MAX_EVALUATIONS = 3  # attempts if the worker dies


class LocalWorker(LimitedWorker):
    """A process of this machine; see `Worker`.

    Attributes:
        is_ready: Whether the process has imported TensorFlow.
        process: The process.
        connection: The driver's end of the socket pair.
    """

    def __init__(self, device: str, log: Path, max_trials: int) -> None:
        """Starts the process.

        Args:
            device: `cpu`, or a GPU as CUDA_VISIBLE_DEVICES names it.
            log: The file to which its stderr outside of trials is appended.
            max_trials: The most trials that it trains.
        """
        super().__init__(max_trials)
        self.is_ready = False
        visible_devices = "-1" if device == CPU else device
        driver_end, worker_end = socket.socketpair()
        with driver_end, worker_end, log.open("ab") as stderr:
            fd = worker_end.fileno()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "svhn_sweep.sweep.workers.worker_main", str(fd)],
                env=os.environ | worker_environment() | {"CUDA_VISIBLE_DEVICES": visible_devices},
                pass_fds=[fd],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # progress, which is in the trial's log, too
                stderr=stderr,
            )
            self.connection: Connection[object, object] = Connection(os.dup(driver_end.fileno()))

    def train(self, request: TrainRequest, threads: int) -> None:
        """Sends the trial to the process."""
        self.count_trial(threads)
        self._send(request)

    def answer(self, *, stop: bool) -> None:
        """Sends the answer to the process."""
        self._send(stop)

    def next_event(self) -> WorkerEvent:
        """Receives the next event; `WorkerExited` if the process has closed its end."""
        return cast(WorkerEvent, self._receive())

    def evaluate(self, request: ModelsRequest[Result]) -> Result | TrialEnded | WorkerExited:
        """Sends the request and waits for the result, or for why there is none."""
        self._send(request)
        received = self._receive()
        if isinstance(received, WorkerReady):  # a new process, or one that had nothing to do yet
            received = self._receive()
        return cast(Result | TrialEnded | WorkerExited, received)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.process.terminate()

    def close(self, timeout: float) -> None:
        """Waits for the process, and kills it after `timeout` seconds."""
        try:
            self.process.wait(max(0.0, timeout))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.connection.close()

    def _send(self, message: object) -> None:
        with suppress(OSError):  # the process has ended, which is its next event
            self.connection.send(message)

    def _receive(self) -> object:
        try:
            received = self.connection.recv()
        except (EOFError, OSError):
            return self._exited()
        self.is_ready = self.is_ready or isinstance(received, WorkerReady)
        return received

    def _exited(self) -> WorkerExited:
        code = self.process.wait()
        number = -code if code < 0 else code - 128
        if number not in set(signal.Signals):
            return WorkerExited(False, f"the worker ended with exit code {code}")
        name = signal.Signals(number)
        return WorkerExited(name in EXTERNAL_SIGNALS, f"the worker was ended by {name.name}")


class LocalMachine:
    """This machine as a cluster of one node; see `Cluster`.

    Attributes:
        devices: The device of each worker: `cpu`, or a GPU as CUDA_VISIBLE_DEVICES names it.
        threads: The CPU cores divided by the workers, at least 1.
    """

    def __init__(self, settings: SweeperConfig, log: Path) -> None:
        """Assigns a device to each worker; none starts yet.

        Args:
            settings: The sweep's settings.
            log: The file to which workers' stderr outside of trials is appended.

        Raises:
            ConfigError: `devices` cannot be used; see `local_devices`.
        """
        self.settings = settings
        self.log = log
        devices = local_devices(settings)
        cores = machine.cores()
        n_workers = count_workers(settings, devices, cores)
        self.devices = tuple(devices[index % len(devices)] for index in range(n_workers))
        self.threads = max(1, cores // n_workers)
        self._workers: list[LocalWorker] = []

    def resolve_precision(self, precision: Precision) -> Precision:
        """Returns what `auto` stands for on the devices of the workers."""
        gpus = [device for device in self.devices if device != CPU]
        return machine.resolve_precision(precision, gpus)

    def prepare(self, plans: Sequence[Plan]) -> None:
        """Does nothing: workers read the data files themselves."""

    def slots(self) -> Sequence[Slot]:
        """Returns one slot for each worker; they never change."""
        return [
            Slot("", device, self.devices[:position].count(device))
            for position, device in enumerate(self.devices)
        ]

    def notices(self) -> list[str]:
        """Returns nothing, since no slot comes or goes."""
        return []

    def describe(self) -> str:
        """Returns the number of workers and their devices as text: "2 workers on the CPU"."""
        on_cpu = self.devices[0] == CPU
        devices = "the CPU" if on_cpu else f"GPU {', '.join(dict.fromkeys(self.devices))}"
        return f"{format_items(len(self.devices), 'worker')} on {devices}"

    def start(self, slot: Slot) -> LocalWorker:
        """Starts a process on the slot's device."""
        started = LocalWorker(slot.device, self.log, self.settings.max_trials_per_worker)
        self._workers = [worker for worker in self._workers if worker.process.poll() is None]
        self._workers.append(started)
        return started

    def wait(self, workers: Collection[Worker], timeout: float) -> list[Worker]:
        """Waits until a worker has sent an event or has ended, at most `timeout` seconds."""
        connections = {cast(LocalWorker, worker).connection: worker for worker in workers}
        return [connections[cast(Connection, ready)] for ready in wait(list(connections), timeout)]

    def close(self) -> None:
        """Ends all processes that were started."""
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.close(STOP_TIMEOUT_SECONDS)

    def evaluate(self, request: ModelsRequest[Result]) -> Result:
        """Predicts with models on a worker that still runs, or on a new one.

        Raises:
            SweepError: The worker failed, or died several times.
        """
        reason = ""
        for _ in range(MAX_EVALUATIONS):
            with self._worker_for(request) as worker:
                answer = worker.evaluate(request)
            if not isinstance(answer, TrialEnded | WorkerExited):
                return answer
            reason = answer.reason
            if isinstance(answer, TrialEnded):
                break
            worker.close(0)
        raise SweepError(f"{request.failure}: {reason}; {request.advice}.")

    @contextmanager
    def _worker_for(self, request: ModelsRequest[Result]) -> Iterator[LocalWorker]:
        """Yields a worker that still runs and can answer the request, or a new one."""
        idle = [worker for worker in self._workers if worker.process.poll() is None]
        if not request.single_thread:
            yield idle[0] if idle else self.start(self.slots()[0])
            return
        on_cpu = idle if self.devices[0] == CPU else []
        if single := [worker for worker in on_cpu if worker.threads == 1]:
            yield single[0]
            return
        # It ends, since later requests are for another device or for more threads.
        worker = LocalWorker(CPU, self.log, self.settings.max_trials_per_worker)
        try:
            yield worker
        finally:
            worker.terminate()
            worker.close(STOP_TIMEOUT_SECONDS)


def worker_environment() -> dict[str, str]:
    """Returns the environment variables that TensorFlow reads when a worker imports it.

    It takes GPU memory as it needs it, and numbers GPUs as nvidia-smi does.
    """
    return {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
