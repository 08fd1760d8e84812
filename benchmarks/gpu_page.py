"""The section of docs/speed.md about the GPU that gpu.py measured."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from speed_results import table

RESULTS = Path(__file__).parent / "gpu.json"
WAYS = {
    "deterministic": "deterministic operations (as the program trains)",
    "any": "any",
    "xla": "XLA",
}
PRECISIONS = {"float32": "float32", "mixed_bfloat16": "bfloat16"}
Part = Mapping[str, Any]


def section() -> list[str]:
    """Paragraphs of Markdown; none if no GPU has been measured."""
    if not RESULTS.exists():
        return []
    results = json.loads(RESULTS.read_text())
    machine = results["machine"]
    name, driver, _, _ = machine["gpu"].split(", ")
    return [
        f"## {name}",
        f"Written by `benchmarks/gpu.py`, each figure from one run. Driver {driver}, "
        f"{machine['cores']} CPU cores,"
        f" Python {machine['python']}, TensorFlow {machine['tensorflow']} (built for "
        f"CUDA {machine['built_for_cuda']}),"
        f" Keras {machine['keras']}; 15,110 real digits to train on, in batches of "
        "128. What is not listed has not been"
        " measured: a sweep to its end, more than four at once, model1, a trial "
        "that asks for too much memory.",
        "### One training of model2",
        _alone(results["alone_model2"]),
        "### Several trainings of model2 at once",
        _at_once(results["at_once_model2"]),
    ]


def _alone(part: Part) -> str:
    plain = part["model.fit"]
    rate = median(plain["images_per_second"])
    epochs = len(plain["images_per_second"]) + 1
    rows = [
        [
            "`model.fit` with its defaults (float32, XLA)",
            "",
            f"{rate:,.0f}",
            f"{plain['accuracy']:.3f} after {epochs}",
        ]
    ]
    for precision, known in PRECISIONS.items():
        for way, text in WAYS.items():
            run = part[f"{precision} {way}"]
            rate = run["images"] * run["epochs"] / run["seconds"]
            accuracy = f"{run['accuracies'][5]:.3f} after 6"
            rows.append(
                [
                    f"{known}, {text}",
                    f"{run['first_epoch_seconds']:.0f} s",
                    f"{rate:,.0f}",
                    accuracy,
                ]
            )
    return table(
        [
            "",
            "first epoch, with tracing or compiling",
            "images per second then",
            "validation accuracy",
        ],
        rows,
    )


def _at_once(part: Part) -> str:
    rows = []
    for count, found in part.items():
        if count.isdecimal() and found.get("each"):
            samples = [[int(value) for value in line.split(",")] for line in found["nvidia_smi"]]
            busy = [sample for sample in samples if sample[0]]
            rows.append(
                [
                    count,
                    f"{found['epochs_per_second']:.2f}",
                    f"{median(sample[0] for sample in busy):.0f} %",
                    f"{max(sample[1] for sample in busy):,} MiB",
                ]
            )
    header = [
        "trainings at once",
        "epochs per second, together",
        "GPU busy (nvidia-smi)",
        "GPU memory",
    ]
    return f"bfloat16, operations: {part['operations']}.\n\n" + table(header, rows)
