"""The files in docker/ are what compose, Kubernetes and SLURM take."""

import subprocess
import sys
from pathlib import Path

import pytest

DOCKER = Path(__file__).parents[1] / "docker"


@pytest.mark.parametrize(
    "command",
    [
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(DOCKER / "compose.yaml")],
        ["kubernetes-validate", "--strict", str(DOCKER / "kubernetes" / "sweep.yaml")],
    ],
)
def test_a_file_follows_its_schema(command: list[str]) -> None:
    program = Path(sys.executable).with_name(command[0])
    result = subprocess.run([str(program), *command[1:]], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_sbatch_script_says_what_is_missing() -> None:
    script = str(DOCKER / "slurm" / "sweep.sbatch")
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    result = subprocess.run(
        ["bash", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert "STORAGE" in result.stderr


def test_images_have_what_the_tests_are_run_with() -> None:
    tested = pins(DOCKER.parent / "requirements.lock")
    for name in ("cpu.lock", "gpu.lock"):
        shipped = pins(DOCKER / name)
        assert {package: each for package, each in shipped.items() if not each <= tested.get(package, each)} == {}
        assert {"tensorflow", "mlflow", "optuna", "psycopg", "flask-wtf"} <= shipped.keys()


def pins(lock: Path) -> dict[str, set[str]]:
    """The versions of each package: the tests' lock has several for some, by the version of Python."""
    found: dict[str, set[str]] = {}
    for line in lock.read_text().splitlines():
        if line[:1].isalpha():
            package, _, version = line.split(" ")[0].partition("==")
            found.setdefault(package, set()).add(version)
    return found
