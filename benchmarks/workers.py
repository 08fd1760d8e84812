"""The same small sweep with 1, 2, 4 and 8 workers: wall time, trials per minute, and what is not training.

python benchmarks/workers.py [--workers 1 2 4] [--trials 8] [override ...]
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SMALL = ("model=model1", "data=synthetic", "data.train_size=2000", "data.test_size=100", "training.epochs=5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    print("workers  wall s  trials/min  first epoch after s  between trials s  not training  locked")
    with tempfile.TemporaryDirectory() as name:
        digits = Path(name) / "digits"
        for workers in options.workers:
            folder = Path(name) / str(workers)
            folder.mkdir()
            print(measure(folder, digits, workers, options.trials, options.overrides), flush=True)


def measure(folder: Path, digits: Path, workers: int, trials: int, overrides: list[str]) -> str:
    """One sweep; its figures as a line."""
    settings = [f"hydra.sweeper.workers={workers}", f"hydra.sweeper.n_trials={trials}", "hydra.sweeper.confirm=null"]
    settings += ["hydra.sweeper.pruner.name=none", f"data.folder={digits}"]
    command = [sys.executable, "-m", "svhn_sweep", "-m", "optuna", *SMALL, *settings, *overrides]
    subprocess.run([*command, "hydra.sweeper.dry_run=true"], cwd=folder, check=True, capture_output=True)  # draws
    started = time.time()
    shown = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    wall = time.time() - started
    journals = [read(path) for path in sorted(folder.glob("multirun/*/trial-*/journal.jsonl"))]
    assert len(journals) == trials
    epochs = [event for events in journals for event in events if event["kind"] == "metrics" and event["step"] > 0]
    first = min(event["time"] / 1000 - event["values"]["epoch_seconds"] for event in epochs) - started
    trained = sum(event["values"]["epoch_seconds"] for event in epochs)
    idle = 1 - trained / (wall * min(workers, trials))
    logs = shown.stdout + shown.stderr + "".join(path.read_text() for path in folder.rglob("*.log"))
    locked = logs.count("database is locked")
    between = " ".join(f"{gap:.1f}" for gap in sorted(gaps(journals, workers)))
    return (
        f"{workers:7}  {wall:6.1f}  {60 * trials / wall:10.2f}  {first:19.1f}  {between:>16}  {idle:12.0%}  {locked:6}"
    )


def read(path: Path) -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(line) for line in path.read_text().splitlines()]


def gaps(journals: list[list[dict]], workers: int) -> list[float]:  # type: ignore[type-arg]
    """Seconds from the last epoch of a trial to the first batch of the next one, where one worker trained all."""
    if workers > 1:
        return []
    found = []
    for before, after in itertools.pairwise(journals):
        ended = max(event["time"] for event in before if event["kind"] == "metrics" and event["step"] > 0)
        first = next(event for event in after if event["kind"] == "metrics" and event["step"] == 1)
        found.append(first["time"] / 1000 - first["values"]["epoch_seconds"] - ended / 1000)
    return found


if __name__ == "__main__":
    main()
