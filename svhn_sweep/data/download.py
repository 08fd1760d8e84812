"""Fetch a large file: a cut download goes on where it stopped, and only a file with the right
checksum appears.
"""

import fcntl
import hashlib
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

ATTEMPTS = 5
PAUSE_SECONDS = 1.0
TIMEOUT_SECONDS = 30.0
BLOCK = 1 << 14  # bytes; what a cut connection loses of the last one is fetched again


def fetch(url: str, target: Path, sha256: str) -> None:
    """Make sure that `target` is there and complete; until then its bytes are in `target` plus
    `.part`.

    Args:
        url: http or https.
        target: left alone if it exists: it is only ever made by renaming a verified file.
        sha256: hex digest that the whole file must have.

    Raises:
        DataError: the server does not deliver, or delivers other bytes.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with _held(part):
        if target.exists():
            return
        _download(url, part)
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != sha256:
            part.unlink()
            raise DataError(
                f"{url} must have the SHA-256 {sha256} but what "
                f"arrived has {digest}; it was thrown away."
            )
        part.replace(target)


@contextmanager
def _held(part: Path) -> Iterator[None]:
    """Have the file for oneself: another process, perhaps of another host, may be at it. An
    empty one is removed.
    """
    while True:
        with part.open("ab") as file:
            _lock(file, part)
            if not _is(part, file):
                continue  # who had it has renamed or removed it
            try:
                yield
            finally:
                if _is(part, file) and part.stat().st_size == 0:
                    part.unlink()
            return


def _lock(file: BinaryIO, part: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"{part} is being downloaded by another process; waiting for it", file=sys.stderr)
        fcntl.flock(file, fcntl.LOCK_EX)


def _is(path: Path, file: BinaryIO) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _download(url: str, part: Path) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _continue(url, part)
            return
        except requests.HTTPError as error:
            raise DataError(f"{url} cannot be downloaded: {error}.") from error
        except requests.RequestException as error:
            if attempt == ATTEMPTS:
                have = part.stat().st_size
                raise DataError(
                    f"{url} cannot be downloaded after {ATTEMPTS} attempts: {error}. "
                    f"{have:,} bytes are kept in {part}; the same command goes on from there."
                ) from error
            time.sleep(PAUSE_SECONDS)


def _continue(url: str, part: Path) -> None:
    """One request for what is still missing of `part`."""
    have = part.stat().st_size
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is missing; the checksum decides
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            have = 0  # the server cannot continue and starts again
        total = have + int(response.headers.get("Content-Length", 0)) or None
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
        )
        with Progress(*columns, TimeRemainingColumn()) as progress, part.open("ab") as file:
            file.truncate(have)
            task = progress.add_task(Path(url).name, total=total, completed=have)
            for block in response.iter_content(BLOCK):
                file.write(block)
                progress.advance(task, len(block))
