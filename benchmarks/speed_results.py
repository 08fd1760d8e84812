"""What speed.py measured on one machine, and what follows from it."""

import itertools
from collections.abc import Sequence
from statistics import median
from typing import Any

Results = dict[str, Any]  # the parts that were measured, by name
Found = Sequence[
    tuple[float, float]
]  # when, in seconds after the start, which validation accuracy was seen
MODELS = ("model1", "model2")


def precision_of(results: Results) -> str:
    """That a sweep takes on this machine."""
    return "mixed_bfloat16" if "mixed_bfloat16" in results["steps"]["model1"] else "float32"


def per_hour(part: Results) -> tuple[float, float]:
    """Full-length trials per hour: the plain script's, one at a time, and ours, two at once."""
    walls = [run["wall"] for run in part["ours"]]
    pairs = [max(pair) for pair in zip(walls[::2], walls[1::2], strict=True)]
    return 3600 / median(run["wall"] for run in part["plain"]), 2 * 3600 / median(pairs)


def plain_found(part: Results) -> Found:
    """When the plain script had seen which accuracy, its epochs taken to be equally long."""
    found: list[tuple[float, float]] = []
    before = part["wall"] - sum(trial["seconds"] for trial in part["trials"])
    for trial in part["trials"]:
        each = trial["seconds"] / len(trial["accuracies"])
        found += [
            (before + each * (at + 1), accuracy) for at, accuracy in enumerate(trial["accuracies"])
        ]
        before += trial["seconds"]
    return found


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def values_of(runs: Sequence[Results], key: str) -> list[float]:
    return [value for run in runs for value in run[key]]


def rates(ends: list[tuple[float, float]], images: int) -> dict[str, list[float]]:
    """Seconds of clock and CPU of each epoch but the first, and training images in each."""
    pairs = list(itertools.pairwise(ends[1:]))
    walls = [after[0] - before[0] for before, after in pairs]
    cpus = [after[1] - before[1] for before, after in pairs]
    return {
        "cpu_seconds": cpus,
        "images_per_second": [images / seconds for seconds in walls],
        "images_per_cpu_second": [images / seconds for seconds in cpus],
    }
