"""Downloads large files: resumes interrupted downloads and verifies checksums."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import requests
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from svhn_sweep.errors import DataError
from svhn_sweep.files import file_digest, lock_file

MAX_ATTEMPTS = 5
PAUSE_SECONDS = 1.0  # between two attempts
TIMEOUT_SECONDS = 30.0
BLOCK_SIZE = 1 << 14  # bytes; after a lost connection, an incomplete block is downloaded again


def fetch(url: str, target: Path, sha256: str) -> None:
    """Downloads a file unless it exists, and verifies it in both cases.

    Until the file is complete and verified, its bytes are in a file with the suffix `.part`.

    Args:
        url: The file's http or https address.
        target: The path; its folder is created if it does not exist.
        sha256: The hex digest that the whole file must have.

    Raises:
        DataError: The server does not deliver the file, or delivers other bytes, or the file that
            exists has other ones.
    """
    if target.exists():
        if (digest := file_digest(target)) != sha256:
            raise DataError(
                f"{target} must have the SHA-256 {sha256} but has {digest}; "
                "remove it, and the same command downloads it again."
            )
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with _part_lock(part):
        if target.exists():
            return
        _download(url, part)
        if (digest := file_digest(part)) != sha256:
            part.unlink()
            raise DataError(
                f"{url} must have the SHA-256 {sha256} but what "
                f"arrived has {digest}; it was thrown away."
            )
        part.replace(target)


@contextmanager
def _part_lock(part: Path) -> Iterator[None]:
    """Creates and locks the part file against other processes; removes it if it stays empty."""
    while True:
        with part.open("ab") as file:
            _wait_for_lock(file, part)
            if not _is_open_at(file, part):
                continue  # the process that held the lock has renamed or removed the file
            try:
                yield
            finally:
                if _is_open_at(file, part) and part.stat().st_size == 0:
                    part.unlink()
            return


def _wait_for_lock(file: BinaryIO, part: Path) -> None:
    try:
        lock_file(file, timeout=0)
    except BlockingIOError:
        print(f"{part} is being downloaded by another process; waiting for it", file=sys.stderr)
        lock_file(file)


def _is_open_at(file: BinaryIO, path: Path) -> bool:
    """Whether the open file is still the one at this path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _download(url: str, part: Path) -> None:
    """Completes the part file in several attempts."""
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            _download_missing(url, part)
            return
        except requests.HTTPError as error:
            raise DataError(f"{url} cannot be downloaded: {error}.") from error
        except requests.RequestException as error:
            if attempt == MAX_ATTEMPTS:
                size = part.stat().st_size
                raise DataError(
                    f"{url} cannot be downloaded after {MAX_ATTEMPTS} attempts: {error}. "
                    f"{size:,} bytes are kept in {part}; the same command goes on from there."
                ) from error
            time.sleep(PAUSE_SECONDS)


def _download_missing(url: str, part: Path) -> None:
    """Requests the missing bytes once and appends them to the part file."""
    size = part.stat().st_size
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={size}-"} if size else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is missing, or the checksum will not match
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            size = 0  # the server cannot resume and sends the whole file
        total = size + int(response.headers.get("Content-Length", 0)) or None
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
        )
        with Progress(*columns, TimeRemainingColumn()) as progress, part.open("ab") as file:
            file.truncate(size)
            task = progress.add_task(Path(url).name, total=total, completed=size)
            for block in response.iter_content(BLOCK_SIZE):
                file.write(block)
                progress.advance(task, len(block))
