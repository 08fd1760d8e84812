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
            print(os.environ.get("TF_ENABLE_ONEDNN_OPTS"), flush=True)
            os._exit(0)  # the import itself takes seconds

sys.meta_path.insert(0, Finder())
"""
TRAIN = "import svhn_sweep.trial, svhn_sweep.training.fit"
PREDICT = """
from pathlib import Path
from types import SimpleNamespace
from svhn_sweep.commands.predict import predict
from svhn_sweep.tracking import registry

registry.fetch = lambda name, folder: SimpleNamespace(version="1", folder=folder)
try:
    predict([Path(sys.argv[1])])
except Exception:
    pass  # the folder has no model
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "variables", "value"),
    [(TRAIN, {}, "1"), (PREDICT, {}, "1"), (TRAIN, {"TF_ENABLE_ONEDNN_OPTS": "0"}, "0")],
)
def test_onednn_is_on_unless_the_user_sets_it(
    plain_environment: dict[str, str],
    tmp_path: Path,
    program: str,
    variables: dict[str, str],
    value: str,
) -> None:
    picture = tmp_path / "digit.png"
    Image.new("L", (32, 32)).save(picture)
    command = [sys.executable, "-c", ONEDNN + program, str(picture)]
    output = subprocess.run(
        command, env=plain_environment | variables, capture_output=True, text=True, check=True
    ).stdout
    assert output == f"{value}\n"


@pytest.mark.slow
def test_threads_limit_both_kinds_of_parallelism_and_cannot_change() -> None:
    """In its own process, since TensorFlow sets its threads once."""
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    ).stdout
    assert output.splitlines() == [
        "3 3",
        "training.threads must be the same for all runs of one command but got 2.",
    ]


@pytest.mark.parametrize(("devices", "deterministic"), [(["GPU:0"], True), ([], False)])
def test_operations_are_deterministic_on_a_gpu_only(
    monkeypatch: pytest.MonkeyPatch, devices: list[str], deterministic: bool
) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: devices)
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: calls.append(True))
    use_deterministic_operations()
    assert calls == [True] * deterministic
