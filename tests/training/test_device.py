import subprocess
import sys

import pytest

PROGRAM = """
import tensorflow as tf
from svhn_sweep.training.device import use_threads

use_threads(3)
print(tf.config.threading.get_intra_op_parallelism_threads(), tf.config.threading.get_inter_op_parallelism_threads())
tf.constant(1) + 1
use_threads(3)
try:
    use_threads(2)
except Exception as error:
    print(error)
"""


@pytest.mark.slow
def test_threads_are_within_an_operation_and_operations_at_once_and_cannot_change() -> None:
    """In a process of its own, because TensorFlow takes its threads once."""
    shown = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == [
        "3 3",
        "training.threads must be the same for all runs of one command but got 2.",
    ]
