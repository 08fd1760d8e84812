import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from svhn_sweep import machine
from svhn_sweep.config.schema import Precision

QUESTION = "--query-gpu=index --format=csv,noheader"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH; it is empty."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def nvidia_smi(path: Path, *answers: object, exit_code: int = 0, question: str = QUESTION) -> None:
    """Installs an nvidia-smi that prints these answers to the question."""
    lines = "".join(f"echo {answer}\n" for answer in answers)
    script = f'#!/bin/sh\n[ "$*" = "{question}" ] || exit 2\n{lines}exit {exit_code}\n'
    (path / "nvidia-smi").write_text(script)
    (path / "nvidia-smi").chmod(0o755)


@pytest.mark.parametrize("present", [(), (0,), (0, 1, 2, 3)])
def test_all_installed_gpus_are_visible_by_default(path: Path, present: tuple[int, ...]) -> None:
    nvidia_smi(path, *present)
    assert machine.visible_gpus() == [str(index) for index in present]


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [
        ("", []),
        ("-1", []),
        ("0", ["0"]),
        ("1,0", ["1", "0"]),
        (" 2 , 1 ", ["2", "1"]),
        ("1,0,", ["1", "0"]),
        ("GPU-8932f937,GPU-0a1b2c3d", ["GPU-8932f937", "GPU-0a1b2c3d"]),
    ],
)
def test_cuda_visible_devices_selects_gpus(
    path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, gpus: list[str]
) -> None:
    nvidia_smi(path, 0, 1, 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.visible_gpus() == gpus


@pytest.mark.parametrize("visible", [None, "0,1"])
@pytest.mark.parametrize("driver", ["missing", "failing", "not executable"])
def test_no_gpu_is_visible_without_a_working_driver(
    path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, driver: str
) -> None:
    if driver != "missing":
        nvidia_smi(path, 0, 1, exit_code=9 if driver == "failing" else 0)
    if driver == "not executable":
        (path / "nvidia-smi").chmod(0o644)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.visible_gpus() == []


@pytest.fixture
def one_core() -> Iterator[None]:
    """Pins the process to one core, as `taskset` does."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def test_cores_outside_the_cpu_affinity_do_not_count(one_core: None) -> None:
    assert machine.cores() == 1


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("", "float32"),
        ("fpu avx512f avx512_vnni", "float32"),
        ("fpu avx512_bf16 avx512f", "mixed_bfloat16"),
        ("amx_bf16 amx_tile", "mixed_bfloat16"),
    ],
)
def test_auto_is_bfloat16_on_cpus_that_support_it(
    monkeypatch: pytest.MonkeyPatch, flags: str, precision: str
) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: set(flags.split()))
    assert machine.resolve_precision(Precision.auto, []) == precision


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        (["9.0", "9.0"], "mixed_bfloat16"),
        (["8.0", "10.0"], "mixed_bfloat16"),
        (["7.5", "9.0"], "float32"),  # one precision for all trials
        (["[N/A]", "9.0"], "float32"),
        ([], "float32"),
    ],
)
def test_auto_is_bfloat16_if_all_gpus_support_it(
    path: Path, capabilities: list[str], precision: str
) -> None:
    nvidia_smi(
        path, *capabilities, question="--query-gpu=compute_cap --format=csv,noheader --id=0,1"
    )
    assert machine.resolve_precision(Precision.auto, ["0", "1"]) == precision


@pytest.mark.parametrize("precision", [Precision.float32, Precision.mixed_float16])
def test_a_precision_other_than_auto_stays(precision: Precision) -> None:
    assert machine.resolve_precision(precision, []) == precision


def test_a_process_is_running_until_it_has_ended() -> None:
    process = subprocess.Popen(["sleep", "60"])
    assert machine.is_running(process.pid)
    process.kill()
    process.wait()
    assert not machine.is_running(process.pid)
    assert machine.is_running(1)  # of another user, unless root runs the tests


def test_x86_cpus_have_flags() -> None:
    assert "x86" not in os.uname().machine or "fpu" in machine.cpu_flags()


def test_memory_is_what_linux_has_available() -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < machine.available_memory() < total
