"""The benchmark of a GPU runs where there is none, too: benchmarks/gpu.py in short, on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.mark.slow
def test_each_part_says_what_it_measured(
    tmp_path: Path, small_h5: Path, plain_environment: dict[str, str]
) -> None:
    found = tmp_path / "gpu.json"
    parts = ["machine", "at_once_model2"]
    command = [
        sys.executable,
        str(BENCHMARK),
        str(small_h5),
        "--json",
        str(found),
        "--short",
        "--parts",
        *parts,
    ]
    subprocess.run(
        command, check=True, cwd=tmp_path, env=plain_environment | {"CUDA_VISIBLE_DEVICES": "-1"}
    )

    measured = json.loads(found.read_text())
    assert list(measured) == parts
    assert measured["at_once_model2"]["1"]["epochs_per_second"] > 0
