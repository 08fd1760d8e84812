"""The journal of a run: every event, in order, in the run's own folder. It knows nothing of MLflow."""

import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

JOURNAL = "journal.jsonl"

Scalar = str | int | float | bool


class Event(TypedDict, total=False):
    """One line of a journal. `kind` and `time` (milliseconds since 1970) are always there, the rest as listed."""

    kind: str  # start, params, tags, metrics, dataset, artifact, model, end
    time: int
    key: str  # start: names this run for ever, in whatever store
    store: str  # start: where the run is meant to be shown, without a password
    experiment: str  # start
    name: str  # start, dataset
    digest: str  # dataset
    source: str  # dataset
    values: dict[str, Scalar]  # params, tags, metrics
    step: int  # metrics
    path: str  # artifact, model: relative to the folder
    status: str  # end: FINISHED, FAILED or KILLED


class Journal:
    """Appends events to `folder/journal.jsonl` and holds its lock, by which others see that the run is alive.

    An event that was appended survives a crash of this process and of the machine.

    Raises:
        BlockingIOError: another process is writing this journal.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._file = (folder / JOURNAL).open("a", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise
        content = (folder / JOURNAL).read_bytes()
        self._file.truncate(content.rfind(b"\n") + 1)  # a line that a crash cut short was never sent

    def start(self, *, name: str, experiment: str, store: str, tags: dict[str, Scalar]) -> None:
        self._append({"kind": "start", "key": uuid.uuid4().hex, "name": name, "experiment": experiment, "store": store})
        self.tags(tags)

    def params(self, values: dict[str, Scalar]) -> None:
        self._append({"kind": "params", "values": values})

    def tags(self, values: dict[str, Scalar]) -> None:
        self._append({"kind": "tags", "values": values})

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        """Finite numbers; `step` is the epoch, from 1, or 0 for a number that belongs to the whole run."""
        self._append({"kind": "metrics", "values": dict(values), "step": step})

    def dataset(self, *, name: str, digest: str, source: str) -> None:
        self._append({"kind": "dataset", "name": name, "digest": digest, "source": source})

    def artifact(self, path: str) -> None:
        """A finished file in the folder, by its path relative to it; written again, it is sent again."""
        self._append({"kind": "artifact", "path": path})

    def model(self, path: str) -> None:
        """A finished MLflow model directory in the folder, by its path relative to it."""
        self._append({"kind": "model", "path": path})

    def end(self, status: str, tags: dict[str, Scalar]) -> None:
        """The last event: how the run ended."""
        self.tags(tags)
        self._append({"kind": "end", "status": status})

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exception: object) -> None:
        """Let go of the lock."""
        self._file.close()

    def _append(self, event: Event) -> None:
        line = json.dumps({"time": time.time_ns() // 1_000_000, **event})
        self._file.write(line + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def read(folder: Path, position: int = 0) -> Iterator[tuple[Event, int]]:
    """The events from byte `position` on, each with the position after it; a line still being written is left out."""
    with (folder / JOURNAL).open("rb") as file:
        file.seek(position)
        for line in file:
            if not line.endswith(b"\n"):
                return
            position += len(line)
            yield json.loads(line), position


def folders(root: Path) -> list[Path]:
    """Every folder with a started journal at or below `root`, by name."""
    found = sorted(path.parent for path in root.rglob(JOURNAL))
    return [folder for folder in found if _start(folder)]


def is_for(folder: Path, store: str) -> bool:
    """Whether the run was meant to be shown in this store."""
    start = _start(folder)
    return start is not None and start["store"] == store


def has_ended(folder: Path) -> bool:
    """Whether the run's process is gone; if it died before it could write the end, writes it."""
    try:
        with Journal(folder) as journal:
            if not any(event["kind"] == "end" for event, _ in read(folder)):
                journal.end("KILLED", {"trial.state": "interrupted", "trial.reason": "the process died"})
    except BlockingIOError:
        return False
    return True


def _start(folder: Path) -> Event | None:
    """The first event, if the file is a journal at all."""
    try:
        event, _ = next(read(folder))
    except (StopIteration, ValueError):
        return None
    return event if isinstance(event, dict) and event.get("kind") == "start" else None
