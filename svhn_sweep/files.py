"""Writes files atomically and locks them, so that processes that share them see whole files."""

import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

LOCK_POLL_SECONDS = 0.05


def write_atomically(path: Path, content: str | bytes, *, sync: bool = True) -> None:
    """Replaces a file's content in one atomic step.

    Args:
        path: The file; its folder must exist.
        content: Text is written as UTF-8.
        sync: As for `open_atomically`.
    """
    with open_atomically(path, sync=sync) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextmanager
def open_atomically(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Yields a file for writing that replaces `path` when the block ends without an error.

    Two processes must not write to the same path at the same time.

    Args:
        path: The file; its folder must exist.
        sync: Whether the content is on the disk (fsync) before it gets its name, so that a power
            cut too leaves the old content or the new.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")  # overwrites what a kill left of it
    try:
        with unfinished.open("wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def unique_temporary(path: Path) -> Iterator[Path]:
    """Yields a new name in the folder of `path`; a file of that name is removed at the end.

    Unlike with `open_atomically`, several processes can prepare the same file at the same time.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def create_atomically(path: Path, create: Callable[[Path], object]) -> None:
    """Creates a file unless it exists, in one atomic step; of several processes the first one wins.

    Args:
        path: The file, for example a database whose tables take seconds to create. If it exists,
            nothing is done.
        create: Creates the complete file under the temporary name that it gets.
    """
    if path.exists():
        return
    with unique_temporary(path) as temporary:
        create(temporary)
        with suppress(FileExistsError):  # another process was faster
            path.hardlink_to(temporary)


def file_digest(path: Path) -> str:
    """Returns the hexadecimal SHA-256 of a file, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Writes a folder's entries to the disk: until then a power cut can undo a rename in it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_file(file: IO[str] | IO[bytes], timeout: float | None = None) -> None:
    """Locks an open file exclusively until it is closed or its process ends.

    The lock belongs to the open file: it excludes other processes, and other threads that open the
    same path.

    Args:
        file: Open in any mode.
        timeout: Seconds to wait for the lock; 0 does not wait, None waits for ever.

    Raises:
        BlockingIOError: The file is still locked after `timeout`.
    """
    if timeout is None:
        fcntl.flock(file, fcntl.LOCK_EX)
        return
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(LOCK_POLL_SECONDS)


@contextmanager
def file_lock(path: Path, timeout: float | None = None) -> Iterator[None]:
    """Holds `lock_file` on `path` during the block; the file is created if it does not exist."""
    with path.open("a") as file:
        lock_file(file, timeout)
        yield


def expand_user(path: str) -> str:
    """Replaces `~` and `~NAME` at the beginning of a path, unless there is no such user."""
    return os.path.expanduser(path)  # noqa: PTH111  # Path's raises an error for ~NOBODY


def absolute(path: str) -> Path:
    """Returns an absolute path, with `~` replaced by the home folder."""
    return Path(expand_user(path)).absolute()
