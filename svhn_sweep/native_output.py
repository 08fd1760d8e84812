"""Redirects to a file what C++ libraries print, so that it stays out of the terminal."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from svhn_sweep.standard_streams import discarding_stream


@contextmanager
def redirect_native_output(path: Path) -> Iterator[None]:
    """Appends what native code writes to file descriptor 2 to a file.

    Python's own `sys.stderr` still writes to the terminal. TensorFlow 2.21 prints on every start
    that it has no GPU and how it rounds, whatever TF_CPP_MIN_LOG_LEVEL is.

    Args:
        path: The file; its folder must exist.

    Yields:
        Nothing; file descriptor 2 is restored on exit.
    """
    sys.stderr.flush()
    python_stderr = sys.stderr
    terminal = os.dup(2)
    with (
        path.open("ab") as file,
        discarding_stream(terminal, python_stderr, closefd=True) as sys.stderr,
    ):
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            sys.stderr = python_stderr
