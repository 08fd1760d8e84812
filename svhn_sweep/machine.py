"""What this machine has to compute with, found out without TensorFlow."""

import itertools
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from svhn_sweep.config.schema import Precision

BFLOAT16 = {"avx512_bf16", "amx_bf16"}  # flags of x86 processors; others have not been measured
BFLOAT16_CAPABILITY = 8  # NVIDIA's compute capability from which tensor cores know bfloat16


def cores() -> int:
    """The cores that this process may use: of its affinity, and of its container's quota,
    rounded up.
    """
    from joblib import cpu_count  # imports numpy

    return int(cpu_count())


def installed_gpus() -> list[str]:
    """Every NVIDIA GPU of this machine, by the index that nvidia-smi gives it."""
    return _nvidia("index")


def gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = installed_gpus()
    if not present or visible is None:
        return present
    chosen = (name.strip() for name in visible.split(","))
    return list(itertools.takewhile(lambda name: name not in ("", "-1"), chosen))  # CUDA's own rule


def precision(wanted: Precision, gpus: Sequence[str]) -> Precision:
    """What `auto` means on these GPUs, or without any on the processor; anything else means itself.

    bfloat16 has float32's range, so that it needs no scaling of the loss.
    """
    if wanted != Precision.auto:
        return wanted
    if gpus:
        capabilities = _nvidia("compute_cap", *gpus)
        majors = [each.partition(".")[0] for each in capabilities]
        known = bool(majors) and all(
            each.isdecimal() and int(each) >= BFLOAT16_CAPABILITY for each in majors
        )
    else:
        known = not BFLOAT16.isdisjoint(flags())
    return Precision.mixed_bfloat16 if known else Precision.float32


def _nvidia(fact: str, *gpus: str) -> list[str]:
    """A fact about each of some GPUs, or of all; nothing where there is no driver."""
    command = [
        "nvidia-smi",
        f"--query-gpu={fact}",
        "--format=csv,noheader",
        *([f"--id={','.join(gpus)}"] if gpus else []),
    ]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=30
        ).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []


def flags() -> set[str]:
    """What the processor can do, in Linux' words."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return {
        flag
        for line in lines
        if line.startswith("flags")
        for flag in line.partition(":")[2].split()
    }
