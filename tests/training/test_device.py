import subprocess
import sys

import pytest


def python(*lines: str) -> str:
    """What a process prints; TensorFlow takes its threads once."""
    before = "import tensorflow as tf; from svhn_sweep.training.device import use_threads"
    program = "\n".join([before, *lines])
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_threads_are_within_an_operation_and_operations_at_once() -> None:
    threads = "tf.config.threading.get_{}_op_parallelism_threads()"
    assert python("use_threads(3)", f"print({threads.format('intra')}, {threads.format('inter')})") == "3 3\n"


@pytest.mark.slow
def test_threads_cannot_change_once_tensorflow_computes() -> None:
    program = ["use_threads(1)", "tf.constant(1) + 1", "use_threads(1)", "try: use_threads(2)"]
    assert python(*program, "except Exception as error: print(error)") == (
        "training.threads must be the same for all runs of one command but got 2.\n"
    )
