"""Sets how TensorFlow computes, and names the device, since both change a run's numbers."""

import tensorflow as tf

from svhn_sweep import machine
from svhn_sweep.errors import ConfigError


def use_threads(threads: int | None) -> None:
    """Limits TensorFlow's threads, both within an operation and between operations.

    With one worker for each core, operations that run side by side only compete for the cache (4 %
    of model2's time, 10 % of model1's).

    Args:
        threads: The limit; None leaves it to TensorFlow.

    Raises:
        ConfigError: This process computes with another number already, which TensorFlow cannot
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
    """Restricts TensorFlow on a GPU to deterministic operations; Keras does not use XLA then.

    On an H200 these cost nothing: an epoch of model2 takes 1.10 s with them and 1.12 s with any
    (docs/architecture.md; measured before `FastModel`). XLA's take 0.42 s, after compiling for half
    a minute in each trial; most trials of a sweep are over by then.
    """
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()


def current_device() -> str:
    """Returns the name of the first GPU that TensorFlow sees, else of the processor."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return f"GPU: {details.get('device_name', 'GPU')}"
    return f"CPU: {machine.processor()}"
