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
        ConfigError: `devices` mixes the CPU and GPUs.
    """
    devices = settings.devices or machine.gpus() or [CPU]
    if CPU in devices and len(devices) > 1:
        raise ConfigError(f"hydra.sweeper.devices must be [cpu] or GPUs but got [{','.join(devices)}].")
    cores = machine.cores()
    if settings.workers != "auto":
        workers = int(settings.workers)
    else:
        workers = cores if devices == [CPU] else settings.workers_per_gpu * len(devices)
    return Places(tuple(devices[index % len(devices)] for index in range(workers)), max(1, cores // workers))


class Worker:
    """A process that trains what it is handed.

    Attributes:
        connection: to wait for and to read from; at its end once the process is gone.
        trials: how many it was handed.
        busy_since: of `time.monotonic`, while it trains.
    """

    def __init__(self, device: str, log: Path) -> None:
        """Start it on a device. `log`: gets what it prints outside its trials."""
        self.device, self.trials, self.busy_since = device, 0, 0.0
        own, its = socket.socketpair()
        with own, its, log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "svhn_sweep.sweep.worker", str(its.fileno())],
                env=_environment(device),
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            self.connection: Connection[Task | Judge | bool, object] = Connection(os.dup(own.fileno()))

    def train(self, task: Task) -> None:
        """Hand it a trial.

        Raises:
            OSError: it is dead.
        """
        self.trials += 1
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
    return os.environ | {"CUDA_VISIBLE_DEVICES": visible, "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
