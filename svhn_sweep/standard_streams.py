"""Keeps the command running when its output or its warnings cannot be shown."""

import errno
import io
import os
import sys
import warnings
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SHOWN_ON_REQUEST = (  # by Python's own filters
    DeprecationWarning,
    PendingDeprecationWarning,
    ImportWarning,
    ResourceWarning,
)


class _DiscardingFile(io.FileIO):
    """Discards what cannot be written: the reader is gone, or the disk is full.

    Attributes:
        failure: The first error.
    """

    failure: OSError | None = None

    def write(self, data: "ReadableBuffer", /) -> int:
        """Writes; from the first error on everything goes to /dev/null, native output too."""
        try:
            return super().write(data)
        except OSError as error:
            self.failure = self.failure or error
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return memoryview(data).nbytes


def discarding_stream(descriptor: int, like: TextIO | None, *, closefd: bool) -> TextIO:
    """Returns a text stream on a file descriptor that raises no error if it cannot be written.

    Args:
        descriptor: The file descriptor.
        like: The stream whose encoding, errors and line buffering it has; a letter that it
            lacks is written as an escape sequence where it would raise an error.
        closefd: Whether the descriptor is closed with the stream.
    """
    raw = _DiscardingFile(descriptor, "w", closefd=closefd)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=like.encoding if like else "utf-8",
        # A path with letters that the terminal does not have must not end the command.
        errors=like.errors if like and like.errors != "strict" else "backslashreplace",
        line_buffering=like.line_buffering if isinstance(like, io.TextIOWrapper) else True,
        write_through=like.write_through if isinstance(like, io.TextIOWrapper) else False,
    )


def keep_running_without_readers() -> None:
    """Replaces standard output and error by streams that raise no error, unless a test did.

    Of the three standard descriptors, those that are closed become /dev/null: the next file that is
    opened would get such a number, and what libraries print would be written into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number, this one
    if sys.stdout is sys.__stdout__:
        sys.stdout = discarding_stream(1, sys.__stdout__, closefd=False)
    if sys.stderr is sys.__stderr__:
        sys.stderr = discarding_stream(2, sys.__stderr__, closefd=False)


def lost_output() -> str:
    """Returns why standard output is incomplete; empty if it is complete or its reader left."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    failure = raw.failure if isinstance(raw, _DiscardingFile) else None
    if failure is None or failure.errno == errno.EPIPE:
        return ""
    return f"standard output is incomplete: {failure.strerror}; runs are kept all the same."


def warnings_are_no_errors() -> None:
    """Undoes `PYTHONWARNINGS=error` and `-W error`: a library's warning would end the command."""
    actions = [option.partition(":")[0] for option in sys.warnoptions]
    if any(action and "error".startswith(action) for action in actions):
        os.environ.pop("PYTHONWARNINGS", None)  # of worker processes
        warnings.resetwarnings()
        for category in SHOWN_ON_REQUEST:
            warnings.simplefilter("ignore", category)
