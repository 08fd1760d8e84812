"""The CPU cores, memory, GPUs, fast precision and processes of this machine, without TensorFlow."""

import itertools
import math
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

from svhn_sweep.config.schema import Precision

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}  # of x86 CPUs; others have not been measured
BFLOAT16_CAPABILITY = 8  # the NVIDIA compute capability from which tensor cores support bfloat16
NVIDIA_SMI_TIMEOUT = 30  # seconds


def cores() -> int:
    """Counts the cores that this process may use.

    Its CPU affinity and the CPU quota of its container count, the latter rounded up.
    """
    from joblib import cpu_count  # imports numpy

    return int(cpu_count())


def available_memory() -> float:
    """Returns how many bytes of memory Linux can still give; infinity on other systems.

    A container's limit counts, whatever of it is in use.
    """
    meminfo = _lines("/proc/meminfo")
    free = [int(line.split()[1]) * 1024 for line in meminfo if line.startswith("MemAvailable:")]
    limits = [int(line) for line in _lines("/sys/fs/cgroup/memory.max") if line.isdecimal()]
    return min([*free, *limits], default=math.inf)


def installed_gpus() -> list[str]:
    """Lists the indices that nvidia-smi gives to the NVIDIA GPUs of this machine."""
    return _query_gpus("index")


def visible_gpus() -> list[str]:
    """Lists the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    installed = installed_gpus()
    if not installed or visible is None:
        return installed
    names = (name.strip() for name in visible.split(","))
    # CUDA ignores everything after the first invalid index.
    return list(itertools.takewhile(lambda name: name not in ("", "-1"), names))


def resolve_precision(precision: Precision, gpus: Sequence[str]) -> Precision:
    """Resolves `auto` to the fastest precision that the hardware supports.

    bfloat16 has the exponent range of float32, so the loss needs no scaling.

    Args:
        precision: The setting; anything but `auto` is returned as it is.
        gpus: The GPUs that train, by index or UUID; without any, the CPU trains.
    """
    if precision != Precision.auto:
        return precision
    if gpus:
        majors = [capability.partition(".")[0] for capability in _query_gpus("compute_cap", *gpus)]
        bfloat16 = bool(majors) and all(
            major.isdecimal() and int(major) >= BFLOAT16_CAPABILITY for major in majors
        )
    else:
        bfloat16 = not BFLOAT16_FLAGS.isdisjoint(cpu_flags())
    return Precision.mixed_bfloat16 if bfloat16 else Precision.float32


def cpu_flags() -> set[str]:
    """Returns the instruction set flags of the CPU, as Linux names them in /proc/cpuinfo."""
    return {
        flag
        for line in _lines("/proc/cpuinfo")
        if line.startswith("flags")
        for flag in line.partition(":")[2].split()
    }


def processor() -> str:
    """Returns the name of the CPU."""
    names = (line for line in _lines("/proc/cpuinfo") if line.startswith("model name"))
    name = next(names, "").partition(":")[2].strip()
    return name or platform.processor() or platform.machine()


def is_running(pid: int) -> bool:
    """Returns whether there is a process with this number, of any user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        pass
    return True


def _lines(path: str) -> list[str]:
    """The lines of a file of Linux; none on other systems."""
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _query_gpus(field: str, *gpus: str) -> list[str]:
    """A field of nvidia-smi for these GPUs, or for all; empty without a working driver."""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"]
    if gpus:
        command.append(f"--id={','.join(gpus)}")
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=NVIDIA_SMI_TIMEOUT
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return result.stdout.split()
