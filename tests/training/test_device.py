import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from PIL import Image

from svhn_sweep.training.device import use_deterministic_operations

PROGRAM = """
import tensorflow as tf
from svhn_sweep.training.device import use_threads

use_threads(3)
threading = tf.config.threading
print(threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())
tf.constant(1) + 1
use_threads(3)
try:
    use_threads(2)
except Exception as error:
    print(error)
"""
ONEDNN = """
import os, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            print(os.environ.get("TF_ENABLE_ONEDNN_OPTS"))

sys.meta_path.insert(0, Finder())
"""
TRAINS = "import svhn_sweep.trial, svhn_sweep.training.fit"
PREDICTS = """
from pathlib import Path
from svhn_sweep import predict

predict._champion = lambda scratch: scratch
try:
    predict.predict([Path(sys.argv[1])])
except Exception:
    pass  # no model is there
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "users", "used"),
    [(TRAINS, {}, "1"), (PREDICTS, {}, "1"), (TRAINS, {"TF_ENABLE_ONEDNN_OPTS": "0"}, "0")],
)
def test_tensorflow_finds_onednn_chosen_unless_the_user_chose(
    plain_environment: dict[str, str],
    tmp_path: Path,
    program: str,
    users: dict[str, str],
    used: str,
) -> None:
    picture = tmp_path / "digit.png"
    Image.new("L", (32, 32)).save(picture)
    command = [sys.executable, "-c", ONEDNN + program, str(picture)]
    shown = subprocess.run(
        command, env=plain_environment | users, capture_output=True, text=True, check=True
    ).stdout
    assert shown == f"{used}\n"


@pytest.mark.slow
def test_threads_are_within_an_operation_and_operations_at_once_and_cannot_change() -> None:
    """In a process of its own, because TensorFlow takes its threads once."""
    shown = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    ).stdout
    assert shown.splitlines() == [
        "3 3",
        "training.threads must be the same for all runs of one command but got 2.",
    ]


@pytest.mark.parametrize(("devices", "deterministic"), [(["GPU:0"], True), ([], False)])
def test_operations_are_deterministic_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, devices: list[str], deterministic: bool
) -> None:
    called: list[bool] = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: devices)
    monkeypatch.setattr(
        tf.config.experimental, "enable_op_determinism", lambda: called.append(True)
    )
    use_deterministic_operations()
    assert called == [True] * deterministic
