"""What a model is trained on: another device or thread count gives other numbers, so each run says its own."""

import platform
from pathlib import Path

import tensorflow as tf

from svhn_sweep.errors import ConfigError


def use_threads(threads: int | None) -> None:
    """Let TensorFlow compute on so many threads; None leaves it to TensorFlow.

    So many within an operation, and so many operations at once: with one worker for each core, operations side by side
    only take each other's cache (4 % of model2's time, 10 % of model1's).

    Raises:
        ConfigError: this process computes with another number already, which TensorFlow cannot change.
    """
    if threads is None or threads == tf.config.threading.get_intra_op_parallelism_threads():
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        raise ConfigError(
            f"training.threads must be the same for all runs of one command but got {threads}."
        ) from error


def current_device() -> str:
    """The first GPU that TensorFlow sees, else the processor."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return f"GPU: {tf.config.experimental.get_device_details(gpus[0]).get('device_name', 'GPU')}"
    return f"CPU: {_processor()}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
