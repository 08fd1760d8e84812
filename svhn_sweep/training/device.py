"""What a model is trained on: another device or thread count gives other numbers, so each run
says its own.
"""

import platform
from pathlib import Path

import tensorflow as tf

from svhn_sweep.errors import ConfigError


def use_threads(threads: int | None) -> None:
    """Let TensorFlow compute on so many threads; None leaves it to TensorFlow.

    So many within an operation, and so many operations at once: with one worker for each core,
    operations side by side only take each other's cache (4 % of model2's time, 10 % of model1's).

    Raises:
        ConfigError: this process computes with another number already, which TensorFlow cannot
            change.
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


def use_deterministic_operations() -> None:
    """On a GPU let TensorFlow take only operations that give equal numbers each time; Keras leaves
    out XLA then.

    On an H200 these cost nothing: an epoch of model2 takes 1.10 s with them and 1.12 s with any
    (docs/speed.md). XLA's take 0.42 s, after it has compiled for half a minute, for each trial
    anew; most trials of a sweep are over by then.
    """
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()


def current_device() -> str:
    """The first GPU that TensorFlow sees, else the processor."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return (
            f"GPU: {tf.config.experimental.get_device_details(gpus[0]).get('device_name', 'GPU')}"
        )
    return f"CPU: {_processor()}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
