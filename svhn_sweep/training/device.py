"""What a model is trained on: another device or thread count gives other numbers, so each run says its own."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf


@dataclass(frozen=True)
class Device:
    """The first GPU that TensorFlow sees, else the processor, and TensorFlow's threads per operation."""

    name: str
    threads: int


def current_device() -> Device:
    """The device that TensorFlow uses in this process."""
    chosen = tf.config.threading.get_intra_op_parallelism_threads() or int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0))
    threads = chosen or len(os.sched_getaffinity(0))
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
        return Device(f"GPU: {name}", threads)
    return Device(f"CPU: {_processor()}", threads)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
