"""The built wheel in a fresh environment, used from a folder that has nothing to do with the
checkout.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

CHECKOUT = Path(__file__).parent.parent
UV = [sys.executable, "-m", "uv"]


def run(*command: str | Path, cwd: Path = CHECKOUT) -> str:
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MLFLOW_", "HYDRA_", "PYTHON"))
    }
    result = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # MLflow's SQLite connections
def test_the_wheel_trains_in_a_folder_with_a_space_in_its_name(tmp_path: Path) -> None:
    run(*UV, "build", "--wheel", "--no-build-isolation", "--out-dir", tmp_path / "dist", CHECKOUT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    python = tmp_path / "fresh" / "bin" / "python"
    run(*UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "fresh")
    run(
        *UV,
        "pip",
        "install",
        "--python",
        python,
        "--require-hashes",
        "-r",
        CHECKOUT / "requirements.lock",
    )
    run(*UV, "pip", "install", "--python", python, "--no-deps", wheel)

    folder = tmp_path / "a folder"
    folder.mkdir()
    small = ("data.synthetic.train_size=200", "data.synthetic.test_size=100", "training.epochs=1")
    sweep = (
        "-m",
        "optuna",
        "model=model1",
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.workers=1",
        "hydra.sweeper.confirm.seeds=2",
    )
    shown = run(python, "-m", "svhn_sweep", *sweep, *small, cwd=folder)
    assert "SYNTHETIC DIGITS" in shown
    assert "registered as svhn-digits-synthetic" in shown.lower()
    assert {path.name for path in folder.iterdir()} == {
        "data",
        "mlflow.db",
        "mlruns",
        "multirun",
        "optuna.db",
    }
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    assert client.get_experiment_by_name("svhn") is None
    runs = client.search_runs([client.get_experiment_by_name("svhn-synthetic").experiment_id])
    assert {run.data.tags["data.source"] for run in runs if run.data.tags["role"] != "sweep"} == {
        "synthetic"
    }
    script = tmp_path / "fresh" / "bin" / "svhn-sweep"
    assert "name: model1" in run(script, "--cfg", "job", "model=model1", cwd=folder)
