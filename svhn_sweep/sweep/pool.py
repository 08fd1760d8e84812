"""Worker processes as their driver sees them: started on a device, spoken to through a pipe, replaced when they die."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from svhn_sweep import machine
from svhn_sweep.errors import ConfigError
from svhn_sweep.sweep.messages import Judge, Task
from svhn_sweep.sweep.settings import SweeperConfig

CPU = "cpu"
STOPPED_BY_SOMEBODY = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
SECONDS_TO_STOP = 4.0
WORKERS_PER_GPU = 4  # at most: one of these small networks leaves a GPU waiting for its process most of the time


@dataclass(frozen=True)
class Places:
    """Where trials are trained at the same time.

    Attributes:
        devices: one for each worker: cpu, or a GPU as CUDA_VISIBLE_DEVICES names it.
        threads: for each worker.
    """

    devices: tuple[str, ...]
    threads: int


def places(settings: SweeperConfig) -> Places:
    """Workers, devices and threads of this machine.

    Raises:
        ConfigError: `devices` names what is not there, or mixes the CPU and GPUs.
    """
    gpus = machine.gpus()
    devices = settings.devices or gpus or [CPU]
    shown = ",".join(devices)
    if CPU in devices and len(devices) > 1:
        raise ConfigError(f"hydra.sweeper.devices must be [cpu] or GPUs but got [{shown}].")
    if gpus and any(device.isdecimal() and device not in gpus for device in devices):
        raise ConfigError(f"hydra.sweeper.devices must be among the GPUs {', '.join(gpus)} but got [{shown}].")
    cores = machine.cores()
    if settings.workers != "auto":
        workers = int(settings.workers)
    else:
        workers = cores if devices == [CPU] else _per_gpu(settings, cores, len(devices)) * len(devices)
    return Places(tuple(devices[index % len(devices)] for index in range(workers)), max(1, cores // workers))


def _per_gpu(settings: SweeperConfig, cores: int, gpus: int) -> int:
    """Workers on each GPU; each of them needs a core, which hands the GPU its work."""
    if settings.workers_per_gpu != "auto":
        return int(settings.workers_per_gpu)
    return max(1, min(WORKERS_PER_GPU, cores // gpus))


class Worker:
    """A process that trains what it is handed.

    Attributes:
        connection: to wait for and to read from; at its end once the process is gone.
        trials: how many it was handed.
        threads: of its trials, once it was handed one; TensorFlow cannot change them.
        busy_since: of `time.monotonic`, while it trains.
    """

    def __init__(self, device: str, log: Path) -> None:
        """Start it on a device. `log`: gets what it prints outside its trials."""
        self.trials, self.threads, self.busy_since = 0, 0, 0.0
        own, its = socket.socketpair()
        with own, its, log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "svhn_sweep.sweep.worker", str(its.fileno())],
                env=_environment(device),
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # epoch by epoch; it is in the trial's log
                stderr=output,
            )
            self.connection: Connection[Task | Judge | bool, object] = Connection(os.dup(own.fileno()))

    def can_train(self, threads: int, most_trials: int) -> bool:
        """Whether this process may train another trial, with so many threads."""
        return self.trials < most_trials and self.threads in (0, threads)

    def train(self, task: Task, threads: int) -> None:
        """Hand it a trial.

        Raises:
            OSError: it is dead.
        """
        self.trials, self.threads = self.trials + 1, threads
        self.busy_since = time.monotonic()
        self.connection.send(task)

    def close(self, patience: float) -> None:
        """Have it gone, at the latest after `patience` seconds."""
        try:
            self.process.wait(max(0.0, patience))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.connection.close()

    def death(self) -> tuple[bool, str]:
        """Why it is gone: whether somebody stopped it, which is no fault of its trial, and in words."""
        code = self.process.wait()
        number = -code if code < 0 else code - 128
        if number not in set(signal.Signals):
            return False, f"the worker ended with exit code {code}"
        return signal.Signals(number) in STOPPED_BY_SOMEBODY, f"the worker was ended by {signal.Signals(number).name}"


def _environment(device: str) -> dict[str, str]:
    """The worker's environment, which TensorFlow reads when it is imported."""
    visible = "-1" if device == CPU else device
    growth = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # nvidia-smi's order
    return os.environ | growth | {"CUDA_VISIBLE_DEVICES": visible}
