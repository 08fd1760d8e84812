"""What this machine has to compute with, found out without TensorFlow."""

import itertools
import os
import subprocess


def cores() -> int:
    """The cores that this process may use: of its affinity, and of its container's quota, rounded up."""
    from joblib import cpu_count  # imports numpy

    return int(cpu_count())


def gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        present = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []
    if visible is None:
        return present
    chosen = (name.strip() for name in visible.split(","))
    return list(itertools.takewhile(lambda name: name not in ("", "-1"), chosen))  # CUDA's own rule
