import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from svhn_sweep import machine

QUESTION = "--query-gpu=index --format=csv,noheader"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which commands are found; it is empty."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def nvidia_smi(path: Path, *indices: int, exit_code: int = 0) -> None:
    """A driver that knows these GPUs."""
    lines = "".join(f"echo {index}\n" for index in indices)
    script = f'#!/bin/sh\n[ "$*" = "{QUESTION}" ] || exit 2\n{lines}exit {exit_code}\n'
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
def test_the_user_chooses_gpus(path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, gpus: list[str]) -> None:
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
