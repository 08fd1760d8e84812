"""Standard output that cannot be written, and warnings that are errors."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from svhn_sweep import standard_streams
from svhn_sweep.native_output import redirect_native_output

CFG = f"{sys.executable} -m svhn_sweep --cfg job"
UNKNOWN_KEY = f"{sys.executable} -m svhn_sweep modle=model1"
INCOMPLETE = (
    "svhn_sweep: standard output is incomplete: No space left on device; "
    "runs are kept all the same.\n"
)


@pytest.mark.parametrize(
    ("command", "exit_code", "message"),
    [
        (f"{CFG} | true; exit ${{PIPESTATUS[0]}}", 0, ""),
        (f"{CFG} >&-", 0, ""),
        (f"{CFG} >&- 2>&- <&-", 0, ""),
        (f"{CFG} >/dev/full", 1, INCOMPLETE),
        (f"{UNKNOWN_KEY} 2>/dev/full", 2, ""),
        (f"{UNKNOWN_KEY} 2>&-", 2, ""),
    ],
)
def test_a_command_whose_output_nobody_takes_ends_without_a_traceback(
    tmp_path: Path, command: str, exit_code: int, message: str
) -> None:
    result = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (exit_code, message)


def test_a_stream_discards_everything_after_an_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with standard_streams.discarding_stream(write_end, None, closefd=True) as stream:
        for _ in range(3):
            print("a line", file=stream, flush=True)
        os.write(write_end, b"from a library")


def test_letters_that_an_ascii_terminal_lacks_are_escaped(tmp_path: Path) -> None:
    with (
        (tmp_path / "output").open("w", encoding="ascii") as like,
        standard_streams.discarding_stream(
            os.open(like.name, os.O_WRONLY), like, closefd=True
        ) as stream,
    ):
        stream.write("in /tmp/gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n")
    assert (tmp_path / "output").read_text() == r"in /tmp/gr\xfcn"


def test_errors_are_discarded_while_native_output_is_redirected(
    tmp_path: Path,
) -> None:
    """In a terminal that was closed during a training."""
    with Path("/dev/full").open("w") as full, pytest.MonkeyPatch.context() as patch:
        terminal = os.dup(2)
        os.dup2(full.fileno(), 2)
        try:
            patch.setattr(sys, "stderr", sys.__stderr__)
            with redirect_native_output(tmp_path / "trial.log"):
                print("a warning", file=sys.stderr)
                os.write(2, b"from a library")
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
    assert (tmp_path / "trial.log").read_bytes() == b"from a library"


@pytest.mark.parametrize("options", [["error"], ["e"], ["ignore", "error::UserWarning"]])
def test_warnings_are_no_errors(monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    monkeypatch.setattr(sys, "warnoptions", options)
    monkeypatch.setenv("PYTHONWARNINGS", ",".join(options))
    with warnings.catch_warnings(record=True) as shown:
        standard_streams.warnings_are_no_errors()
        warnings.warn("of a library", UserWarning, stacklevel=1)
        warnings.warn("of a library", DeprecationWarning, stacklevel=1)
    assert [warning.category for warning in shown] == [UserWarning]
    assert "PYTHONWARNINGS" not in os.environ
