"""Workers as processes of this machine: started on a device, spoken to through a pipe."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import cast

from svhn_sweep import machine
from svhn_sweep.config.schema import Precision
from svhn_sweep.errors import ConfigError, SweepError
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.workers.protocol import (
    CPU,
    SECONDS_TO_STOP,
    EvaluateRequest,
    EvaluateResult,
    Event,
    Slot,
    TrainRequest,
    TrialEnded,
    Worker,
    WorkerExited,
)

STOPPED_FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
MAX_WORKERS_PER_GPU = (
    4  # one of these small networks leaves a GPU waiting for its process most of the time
)
MAX_EVALUATIONS = 3  # attempts, if the worker dies


class LocalWorker:
    """A process of this machine, which is handed a trial while it still starts."""

    is_ready = True

    def __init__(self, device: str, log: Path, max_trials: int) -> None:
        """Start it on a device. `log`: gets what it prints outside its trials."""
        self.max_trials, self.trials, self.threads = max_trials, 0, 0
        own, its = socket.socketpair()
        with own, its, log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "svhn_sweep.sweep.workers.worker_main", str(its.fileno())],
                env=os.environ
                | worker_environment()
                | {"CUDA_VISIBLE_DEVICES": "-1" if device == CPU else device},
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # epoch by epoch; it is in the trial's log
                stderr=output,
            )
            self.connection: Connection[object, object] = Connection(os.dup(own.fileno()))

    def can_train(self, threads: int) -> bool:
        # TensorFlow keeps memory from trial to trial, and cannot change its threads.
        return self.trials < self.max_trials and self.threads in (0, threads)

    def train(self, request: TrainRequest, threads: int) -> None:
        self.trials = self.trials + 1
        self.threads = threads
        self._send(request)

    def answer(self, *, stop: bool) -> None:
        self._send(stop)

    def next_event(self) -> Event:
        try:
            return cast(Event, self.connection.recv())
        except (EOFError, OSError):
            return self._exited()

    def evaluate(self, request: EvaluateRequest) -> EvaluateResult | TrialEnded | WorkerExited:
        """What came of it, when it is over: the accuracies, or why there are none."""
        self._send(request)
        try:
            return cast(EvaluateResult | TrialEnded, self.connection.recv())
        except (EOFError, OSError):
            return self._exited()

    def terminate(self) -> None:
        self.process.terminate()

    def close(self, timeout: float) -> None:
        try:
            self.process.wait(max(0.0, timeout))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.connection.close()

    def _send(self, message: object) -> None:
        with suppress(OSError):  # it is gone, which is its next event
            self.connection.send(message)

    def _exited(self) -> WorkerExited:
        code = self.process.wait()
        number = -code if code < 0 else code - 128
        if number not in set(signal.Signals):
            return WorkerExited(False, f"the worker ended with exit code {code}")
        name = signal.Signals(number)
        return WorkerExited(name in STOPPED_FROM_OUTSIDE, f"the worker was ended by {name.name}")


class LocalMachine:
    """This machine as a cluster of one node.

    Attributes:
        devices: one for each worker: cpu, or a GPU as CUDA_VISIBLE_DEVICES names it.
        threads: for each worker.
    """

    def __init__(self, settings: SweeperConfig, log: Path) -> None:
        """Find out what there is. `log`: gets what workers print outside their trials.

        Raises:
            ConfigError: `devices` names what is not there, or mixes the CPU and GPUs.
        """
        self.settings, self.log = settings, log
        self.devices, self.threads = _devices(settings)
        self._workers: list[LocalWorker] = []

    def precision(self, wanted: Precision) -> Precision:
        return machine.precision(wanted, [device for device in self.devices if device != CPU])

    def prepare(self, plans: Sequence[Plan]) -> None:
        """Nothing: workers read the digits themselves."""

    def slots(self) -> Sequence[Slot]:
        return [
            Slot("", device, self.devices[:place].count(device))
            for place, device in enumerate(self.devices)
        ]

    def notices(self) -> list[str]:
        return []

    def describe(self) -> str:
        count = len(self.devices)
        where = (
            "the CPU" if self.devices[0] == CPU else f"GPU {', '.join(dict.fromkeys(self.devices))}"
        )
        return f"{count} worker{'' if count == 1 else 's'} on {where}"

    def start(self, slot: Slot) -> LocalWorker:
        worker = LocalWorker(slot.device, self.log, self.settings.max_trials_per_worker)
        self._workers = [each for each in self._workers if each.process.poll() is None] + [worker]
        return worker

    def wait(self, workers: Collection[Worker], timeout: float) -> list[Worker]:
        connections = {cast(LocalWorker, worker).connection: worker for worker in workers}
        if not connections:
            time.sleep(timeout)
        return [connections[cast(Connection, ready)] for ready in wait(list(connections), timeout)]

    def close(self) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.close(SECONDS_TO_STOP)

    def evaluate(self, request: EvaluateRequest) -> EvaluateResult:
        reason = ""
        for _ in range(MAX_EVALUATIONS):
            idle = next((worker for worker in self._workers if worker.process.poll() is None), None)
            worker = idle or self.start(self.slots()[0])
            result = worker.evaluate(request)
            if isinstance(result, EvaluateResult):
                return result
            reason = result.reason
            if not isinstance(result, WorkerExited):
                break
            worker.close(0)
        raise SweepError(
            f"the models could not be judged on test: {reason}; the same command tries again."
        )


def _devices(settings: SweeperConfig) -> tuple[tuple[str, ...], int]:
    """The device of each worker, and the threads that each has."""
    gpus = machine.gpus()
    devices = settings.devices or gpus or [CPU]
    shown = ",".join(devices)
    if CPU in devices and len(devices) > 1:
        raise ConfigError(f"hydra.sweeper.devices must be [cpu] or GPUs but got [{shown}].")
    if gpus and any(device.isdecimal() and device not in gpus for device in devices):
        raise ConfigError(
            f"hydra.sweeper.devices must be among the GPUs {', '.join(gpus)} but got [{shown}]."
        )
    cores = machine.cores()
    if settings.workers != "auto":
        workers = int(settings.workers)
    else:
        workers = (
            cores
            if devices == [CPU]
            else workers_per_gpu(settings, cores // len(devices)) * len(devices)
        )
    return tuple(devices[index % len(devices)] for index in range(workers)), max(
        1, cores // workers
    )


def workers_per_gpu(settings: SweeperConfig, cores_per_gpu: int) -> int:
    """Workers on each GPU; by default each has a core, which hands the GPU its work."""
    if settings.workers_per_gpu != "auto":
        return int(settings.workers_per_gpu)
    return max(1, min(MAX_WORKERS_PER_GPU, cores_per_gpu))


def worker_environment() -> dict[str, str]:
    """What TensorFlow reads when it is imported: take GPU memory as it is needed, and count GPUs
    as nvidia-smi does.
    """
    return {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
