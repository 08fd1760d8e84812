"""A sweep that is killed again and again, and typed again, ends as one that was not:
benchmarks/chaos.py in short.
"""

import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).parents[2] / "benchmarks" / "chaos.py"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_survives_six_kills(tmp_path: Path, plain_environment: dict[str, str]) -> None:
    result = subprocess.run(
        [sys.executable, str(CHAOS), "--short", "--folder", str(tmp_path)],
        env=plain_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
