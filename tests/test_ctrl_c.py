"""Tests Ctrl-C while TensorFlow starts: it ends the command, with no false alarm about MLflow."""

import signal
import time
from pathlib import Path

import pytest
from folder import Folder

pytestmark = pytest.mark.slow

SLOW_MLFLOW = """
import sys
import time

class SlowMlflow:
    def find_spec(self, name, path=None, target=None):
        if name == "mlflow":
            time.sleep(60)

sys.meta_path.insert(0, SlowMlflow())
"""


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        (["model=model1"], "A single run is not resumed: the same command starts a new one."),
        (
            ["-m", "optuna", "model=model1", "confirm=null", "workers=1", "n_trials=2"],
            "Nothing is lost. The same command continues:",
        ),
    ],
    ids=["single run", "sweep"],
)
def test_while_tensorflow_starts_ctrl_c_ends_the_command_with_the_way_to_sync(
    folder: Folder, small_h5: Path, command: list[str], kept: str
) -> None:
    folder.environment = folder.environment | folder.python_begins_with(SLOW_MLFLOW)
    process = folder.start(*command, "data=svhn", f"data.path={small_h5}")
    assert process.stdout is not None
    assert any("TensorFlow, some" in line for line in process.stdout)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert stderr == (
        "svhn_sweep: not all of it is in MLflow yet: `python -m svhn_sweep sync` sends it.\n"
        "svhn_sweep: interrupted\n"
    )
    assert process.returncode == 130
    assert stdout.count(kept) == 1
    assert "MLflow" not in stdout
