"""The tracking server is killed for a minute in the middle of a sweep: what that costs, and what is
missing.

python benchmarks/outage.py [--seconds 60]
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

SWEEP = (
    "-m",
    "optuna",
    "model=model1",
    "data=synthetic",
    "data.train_size=1000",
    "data.test_size=100",
)
SETTINGS = (
    "hydra.sweeper.n_trials=2",
    "hydra.sweeper.confirm=null",
    "hydra.sweeper.pruner.name=none",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as free:
        folder = Path(name)
        port = free.getsockname()[1]
        free.close()
        server = serve(folder, port)
        environment = os.environ | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
        epochs = f"training.epochs={8 * seconds}"
        sweep = subprocess.Popen(
            [sys.executable, "-m", "svhn_sweep", *SWEEP, *SETTINGS, epochs],
            cwd=folder,
            env=environment,
        )
        while len(epoch_times(folder)) < 10:
            time.sleep(0.5)
        time.sleep(seconds)
        os.killpg(server.pid, signal.SIGKILL)
        down = time.time()
        time.sleep(seconds)
        server = serve(folder, port)
        up = time.time()
        assert sweep.wait() == 0
        report(folder, down, up, seconds, port)
        os.killpg(server.pid, signal.SIGKILL)


def serve(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """A real MLflow server, once it answers."""
    store = f"sqlite:///{folder}/server.db"
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    light = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("a") as log:
        server = subprocess.Popen(
            [
                *command,
                "--backend-store-uri",
                store,
                "--default-artifact-root",
                f"{folder}/artifacts",
            ],
            cwd=folder,
            env=os.environ | light,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
            break
        except OSError:
            time.sleep(0.2)
    return server


def epoch_times(folder: Path) -> list[float]:
    """When each epoch of each trial was over."""
    lines = [
        line for path in folder.glob("multirun/*/trial-*/journal.jsonl") for line in path.open()
    ]
    events = [json.loads(line) for line in lines if line.endswith("\n")]
    return [
        event["time"] / 1000 for event in events if event["kind"] == "metrics" and event["step"] > 0
    ]


def report(folder: Path, down: float, up: float, seconds: int, port: int) -> None:
    times = epoch_times(folder)
    before = sum(down - seconds < at <= down for at in times) / seconds
    during = sum(down < at <= up for at in times) / (up - down)
    print(
        f"epochs per second: {before:.2f} before, {during:.2f} in the outage of {up - down:.0f} s"
    )

    from mlflow import MlflowClient

    client = MlflowClient(f"http://127.0.0.1:{port}")
    experiment = client.get_experiment_by_name("svhn-synthetic")
    runs = client.search_runs([experiment.experiment_id], "tags.role != 'sweep'")
    shown = sum(len(client.get_metric_history(run.info.run_id, "val/accuracy")) for run in runs)
    print(f"epochs in the folders {len(times)}, in MLflow {shown}, missing {len(times) - shown}")
    print(f"states: {sorted(run.info.status for run in runs)}")


if __name__ == "__main__":
    main()
