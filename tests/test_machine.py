import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from svhn_sweep import machine
from svhn_sweep.config.schema import Precision

QUESTION = "--query-gpu=index --format=csv,noheader"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which commands are found; it is empty."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def nvidia_smi(path: Path, *answers: object, exit_code: int = 0, question: str = QUESTION) -> None:
    """A driver that knows these GPUs."""
    lines = "".join(f"echo {answer}\n" for answer in answers)
    script = f'#!/bin/sh\n[ "$*" = "{question}" ] || exit 2\n{lines}exit {exit_code}\n'
    (path / "nvidia-smi").write_text(script)
    (path / "nvidia-smi").chmod(0o755)


@pytest.mark.parametrize("present", [(), (0,), (0, 1, 2, 3)])
def test_without_a_choice_all_gpus_are_there(path: Path, present: tuple[int, ...]) -> None:
    nvidia_smi(path, *present)
    assert machine.gpus() == [str(index) for index in present]


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
def test_the_user_chooses_gpus(
    path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, gpus: list[str]
) -> None:
    nvidia_smi(path, 0, 1, 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.gpus() == gpus


@pytest.mark.parametrize("visible", [None, "0,1"])
@pytest.mark.parametrize("driver", ["missing", "failing", "not executable"])
def test_without_a_working_driver_there_are_no_gpus(
    path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, driver: str
) -> None:
    if driver != "missing":
        nvidia_smi(path, 0, 1, exit_code=9 if driver == "failing" else 0)
    if driver == "not executable":
        (path / "nvidia-smi").chmod(0o644)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.gpus() == []


@pytest.fixture
def one_core() -> Iterator[None]:
    """What `taskset` does, or a container."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def test_the_cores_are_those_of_the_machine() -> None:
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)


def test_cores_that_the_process_may_not_use_do_not_count(one_core: None) -> None:
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
def test_a_processor_that_knows_bfloat16_uses_it(
    monkeypatch: pytest.MonkeyPatch, flags: str, precision: str
) -> None:
    monkeypatch.setattr(machine, "flags", lambda: set(flags.split()))
    assert machine.precision(Precision.auto, []) == precision


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
def test_gpus_that_all_know_bfloat16_use_it(
    path: Path, capabilities: list[str], precision: str
) -> None:
    nvidia_smi(
        path, *capabilities, question="--query-gpu=compute_cap --format=csv,noheader --id=0,1"
    )
    assert machine.precision(Precision.auto, ["0", "1"]) == precision


@pytest.mark.parametrize("wanted", [Precision.float32, Precision.mixed_float16])
def test_what_somebody_chose_is_not_changed(wanted: Precision) -> None:
    assert machine.precision(wanted, []) == wanted


def test_this_processor_has_flags() -> None:
    assert "x86" not in os.uname().machine or "fpu" in machine.flags()
