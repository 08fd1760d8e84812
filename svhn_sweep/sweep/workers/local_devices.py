"""Chooses the devices of this machine that workers use, and how many workers share them."""

from collections.abc import Sequence

from svhn_sweep import machine
from svhn_sweep.errors import ConfigError
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.workers.protocol import CPU

# A network this small leaves a GPU waiting for its process most of the time.
MAX_WORKERS_PER_GPU = 4


def local_devices(settings: SweeperConfig) -> list[str]:
    """Returns the devices to use, each once: `cpu` or GPUs.

    Raises:
        ConfigError: `devices` names a GPU that is not there or one twice, or mixes the CPU with
            GPUs.
    """
    gpus = machine.visible_gpus()
    devices = settings.devices or gpus or [CPU]
    if CPU in devices and len(devices) > 1:
        raise ConfigError(
            f"hydra.sweeper.devices must be [cpu] or GPUs but got [{','.join(devices)}]."
        )
    if len(set(devices)) < len(devices):
        raise ConfigError(
            "hydra.sweeper.devices must have each GPU once but got "
            f"[{','.join(devices)}]; hydra.sweeper.workers_per_gpu is how many workers share it."
        )
    # Without nvidia-smi `gpus` is empty, and names other than indices are not known to it.
    if gpus and any(device.isdecimal() and device not in gpus for device in devices):
        raise ConfigError(
            f"hydra.sweeper.devices must be among the GPUs {', '.join(gpus)} "
            f"but got [{','.join(devices)}]."
        )
    return devices


def count_workers(settings: SweeperConfig, devices: Sequence[str], cores: int) -> int:
    """Returns how many workers train at a time on these devices of a machine with so many cores."""
    if settings.workers != "auto":
        return int(settings.workers)
    if devices == [CPU]:
        return cores
    return len(devices) * workers_per_gpu(settings, cores // len(devices))


def workers_per_gpu(settings: SweeperConfig, cores_per_gpu: int) -> int:
    """Returns how many workers share each GPU.

    Args:
        settings: The sweep's settings. `workers_per_gpu=auto` is one worker per core, at most 4,
            since each worker needs a core to feed the GPU.
        cores_per_gpu: The CPU cores that there are for each GPU.
    """
    if settings.workers_per_gpu != "auto":
        return int(settings.workers_per_gpu)
    return max(1, min(MAX_WORKERS_PER_GPU, cores_per_gpu))
