"""MLflow's UI on a sweep of many trials: how long it takes to answer and to show each view, and its
memory.

python benchmarks/ui.py [--trials 24 1000 5000]    each store with `svhn_sweep ui`, then with plain
`mlflow ui`
"""

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from svhn_sweep.tracking import saved_views, tracking_uri

EPOCHS = 30
PARAMS = ("training.learning_rate", "model.dropout", "model.filters.conv1", "model.filters.conv2")
ABOUT = saved_views.ViewSpec(
    "model2-abc", "0" * 64, "val/accuracy", maximize=True, params=PARAMS, columns=PARAMS
)
FIRST_ROW = "[row-index='0'] [col-id='metrics.`val/best_accuracy`']"
SHOWN = {
    "leaderboard": FIRST_ROW,
    "charts": ".js-plotly-plot .scatterlayer .trace",
    "matrices": "img[src*='get-artifact'], img[src^='blob:']",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[24, 1000, 5000])
    arguments = parser.parse_args()
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # no invented trials among real ones
    for trials in arguments.trials:
        with tempfile.TemporaryDirectory() as name:
            os.chdir(name)
            best = invent(trials)
            print(f"{trials} trials")
            measure(["svhn_sweep", "ui"], best)
            measure(["mlflow", "ui", "--backend-store-uri", tracking_uri.store_uri()], best)
            os.chdir("/")


def invent(trials: int) -> str:
    """A store with so many trials; returns the best accuracy as the leaderboard shows it."""
    client = tracking_uri.connect()
    experiment = client.create_experiment("svhn")
    for key, (name, state) in saved_views.views(ABOUT).items():
        client.set_experiment_tag(
            experiment, saved_views.TAG_PREFIX + key, saved_views.encode(name, json.dumps(state), 0)
        )
    random.seed(0)
    accuracies = dict(invent_trial(client, experiment, number) for number in range(trials))
    matrix = Image.effect_noise((640, 640), 40).convert("RGB")  # about as large as a real one
    for run_id in sorted(accuracies, key=accuracies.__getitem__)[-10:]:  # those that the view shows
        client.log_image(run_id, matrix, key=saved_views.CONFUSION_MATRIX, step=0, synchronous=True)
    return str(max(accuracies.values()))


def invent_trial(client: MlflowClient, experiment: str, number: int) -> tuple[str, float]:
    top = round(random.uniform(0.7, 0.9), 7)
    curve = [top * (1 - 0.8**epoch) for epoch in range(1, EPOCHS + 1)]
    tags = {
        "role": "trial",
        "study": ABOUT.study,
        "data.sha256": ABOUT.data_sha256,
        "trial.state": "complete",
    }
    run = client.create_run(experiment, run_name=f"trial {number}", tags=tags)
    metrics = [Metric("val/accuracy", value, number, epoch) for epoch, value in enumerate(curve, 1)]
    metrics += [
        Metric("val/loss", 1 - value, number, epoch) for epoch, value in enumerate(curve, 1)
    ]
    metrics += [
        Metric("val/best_accuracy", top, number, 0),
        Metric("delta_to_baseline", top - 0.8, number, 0),
    ]
    params = [Param(key, str(random.random())) for key in PARAMS]
    client.log_batch(run.info.run_id, metrics, params, [RunTag("device", "CPU")])
    client.set_terminated(run.info.run_id)
    return run.info.run_id, top


def measure(module: list[str], best: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    began = time.monotonic()
    server = subprocess.Popen(
        [sys.executable, "-m", *module],
        env=os.environ | {"MLFLOW_PORT": port},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health")
        answers = time.monotonic() - began
        memory = megabytes(server.pid)
        print(
            f"  {module[0]} ui answers after {answers:.1f} s; "
            f"{len(memory)} processes, {sum(memory):.0f} MB"
        )
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            views = saved_views.views(ABOUT).items()
            # The invented trials have no sizes.
            for key, (name, _) in [view for view in views if not view[0].startswith("size")]:
                show(page, f"http://127.0.0.1:{port}", key, name)
                if key.startswith("leaderboard"):
                    print(
                        "      begins with "
                        f"{page.locator(FIRST_ROW).text_content()}, the best is {best}"
                    )
            browser.close()
        print(f"    afterwards {sum(megabytes(server.pid)):.0f} MB", flush=True)
    finally:
        server.terminate()
        server.wait()


def show(page: Page, server: str, key: str, name: str) -> None:
    page.goto("about:blank")
    began = time.monotonic()
    page.goto(f"{server}/{saved_views.page(key, '1')}")
    page.locator(SHOWN[key.partition("-")[0]]).first.wait_for(timeout=300_000)
    print(f"    {name}: {time.monotonic() - began:.1f} s")


def wait_for(address: str) -> None:
    for _ in range(1200):
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(address)


def megabytes(command: int) -> list[float]:
    """Resident memory of each process of the server, which may have a session of its own."""
    started = subprocess.run(["pgrep", "-P", str(command)], capture_output=True, text=True).stdout
    sessions = ",".join([str(command), *started.split()])
    listed = subprocess.run(
        ["ps", "-o", "rss=", "-g", sessions], capture_output=True, text=True, check=True
    ).stdout
    return [int(line) / 1024 for line in listed.split()]


if __name__ == "__main__":
    main()
