"""The files in docker/ are what compose, Kubernetes and SLURM take."""

import subprocess
import sys
from pathlib import Path

import yaml

DOCKER = Path(__file__).parents[1] / "docker"


def test_compose_follows_its_schema() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(DOCKER / "compose.yaml"))


def test_pods_of_the_ray_job_follow_their_schema(tmp_path: Path) -> None:
    """KubeRay's own fields are not checked here: their schema is not among the tests' packages."""
    cluster = yaml.safe_load((DOCKER / "kubernetes" / "sweep.yaml").read_text())["spec"][
        "rayClusterSpec"
    ]
    for number, group in enumerate([cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]):
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"pod-{number}"},
            **group["template"],
        }
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump(pod))
        run("kubernetes-validate", "--strict", str(path))


def test_the_ray_job_names_the_version_of_ray_in_the_images() -> None:
    cluster = yaml.safe_load((DOCKER / "kubernetes" / "sweep.yaml").read_text())["spec"][
        "rayClusterSpec"
    ]
    for name in ("cpu.lock", "gpu.lock"):
        assert pins(DOCKER / name)["ray"] == {cluster["rayVersion"]}


def test_the_sbatch_script_says_what_is_missing() -> None:
    script = str(DOCKER / "slurm" / "sweep.sbatch")
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    result = subprocess.run(
        ["bash", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert "DATA" in result.stderr


def test_images_have_what_the_tests_are_run_with() -> None:
    tested = pins(DOCKER.parent / "requirements.lock")
    for name in ("cpu.lock", "gpu.lock"):
        shipped = pins(DOCKER / name)
        assert {
            package: each
            for package, each in shipped.items()
            if not each <= tested.get(package, each)
        } == {}
        assert {"tensorflow", "mlflow", "optuna", "ray", "psycopg", "flask-wtf"} <= shipped.keys()


def run(program: str, *arguments: str) -> None:
    """Runs a program of the tests' environment, which must succeed."""
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def pins(lock: Path) -> dict[str, set[str]]:
    """The versions of each package: the tests' lock has several for some, by the version of
    Python.
    """
    found: dict[str, set[str]] = {}
    for line in lock.read_text().splitlines():
        if line[:1].isalpha():
            package, _, version = line.split(" ")[0].partition("==")
            found.setdefault(package, set()).add(version)
    return found
