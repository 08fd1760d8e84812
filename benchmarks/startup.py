"""How long the command takes before it trains, and what share of a run is not training.

python benchmarks/startup.py            medians of five `--cfg job`, five config errors and one short run per model
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

REPEATS = 5


def seconds(arguments: Sequence[str], folder: str) -> float:
    """Wall time of one command, whatever its exit code."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "svhn_sweep", *arguments], cwd=folder, capture_output=True, check=False)
    return time.perf_counter() - started


def shares(arguments: Sequence[str], folder: str) -> dict[str, float]:
    """Seconds of a run: in all, before the first epoch, and inside epochs."""
    began = time.time()
    whole = seconds(arguments, folder)
    (journal,) = Path(folder).rglob("journal.jsonl")
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    epochs = [event for event in events if event["kind"] == "metrics" and event["step"] > 0]
    durations = [event["values"]["epoch_seconds"] for event in epochs]
    first_epoch = epochs[0]["time"] / 1000 - durations[0] - began
    return {"whole": whole, "before the first epoch": first_epoch, "in epochs": sum(durations)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in {
            "--cfg job": ["--cfg", "job"],
            "config error": ["model.dropout=1"],
        }.items():
            times = [seconds(arguments, folder) for _ in range(REPEATS)]
            print(f"{name:12} median {statistics.median(times):.2f} s, {min(times):.2f}..{max(times):.2f}")
    for model in ("model1", "model2"):
        with tempfile.TemporaryDirectory() as folder:
            run = shares([f"model={model}", *sys.argv[1:]], folder)
            rest = 1 - run["in epochs"] / run["whole"]
            print(f"{model}: " + ", ".join(f"{name} {value:.1f} s" for name, value in run.items()))
            print(f"{model}: {rest:.0%} of the wall time is not training")


if __name__ == "__main__":
    main()
