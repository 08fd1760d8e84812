"""The journal of a run: every event, in order, in the run's own folder. It knows nothing of
MLflow.
"""

import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from svhn_sweep.trial_status import TrialStatus

JOURNAL = "journal.jsonl"

Scalar = str | int | float | bool


class Event(TypedDict, total=False):
    """One line of a journal.

    `kind` and `time` (milliseconds since 1970) are always there, the rest as listed.
    """

    # start, resume, description, params, tags, metrics, dataset, artifact, image, model, view, end
    kind: str
    time: int
    # start: names this run for ever, in whatever store; image, view: names it in MLflow's UI
    key: str
    store: str  # start: where the run is meant to be shown, without a password
    experiment: str  # start
    parent: str  # start, of a run within another: that one's folder, relative to this one
    name: str  # start, dataset, view
    text: str  # description: Markdown
    digest: str  # dataset
    source: str  # dataset
    values: dict[str, Scalar]  # params, tags, metrics; end: tags
    step: int  # metrics
    path: str  # artifact, image, model: relative to the folder
    state: str  # view: what MLflow's UI shows, in its JSON
    status: str  # end: FINISHED, FAILED or KILLED


class Journal:
    """Appends events to `folder/journal.jsonl` and holds its lock, by which others see that the run
    is alive.

    An event that was appended survives a crash of this process and of the machine. A run that was
    interrupted goes on in the same journal: it starts once, and a parameter, or a metric of its
    step, that is there is not written again.

    Attributes:
        started: whether it has its first event; a process that dies at once leaves a journal
            without any.

    Raises:
        BlockingIOError: another process is still writing this journal after `patience` seconds.
    """

    def __init__(self, folder: Path, patience: float = 5.0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._file = (folder / JOURNAL).open("a", encoding="utf-8")
        self._lock(time.monotonic() + patience)
        content = (folder / JOURNAL).read_bytes()
        if content and not content.endswith(b"\n"):
            self._file.truncate(
                content.rfind(b"\n") + 1
            )  # a line that a crash cut short was never sent
        self._params: set[str] = set()
        self._metrics: set[tuple[str, int]] = set()
        self._views: dict[str, str] = {}
        self.description = ""
        self.started = self.ended = False
        for event, _ in read(folder):
            self._note(event)

    def start(
        self, *, name: str, experiment: str, store: str, tags: dict[str, Scalar], parent: str = ""
    ) -> None:
        """The first event; in a journal that ended before, the run goes on."""
        if self.started and self.ended:
            self._append({"kind": "resume"})
        elif not self.started:
            start: Event = {"kind": "start", "key": uuid.uuid4().hex, "name": name}
            start |= {"experiment": experiment, "store": store}
            self._append(start | {"parent": parent} if parent else start)
        self.tags(tags)

    def params(self, values: dict[str, Scalar]) -> None:
        """A parameter keeps its first value, wherever the data lie when the run goes on: MLflow
        takes no other.
        """
        new = {key: value for key, value in values.items() if key not in self._params}
        if new:
            self._append({"kind": "params", "values": new})

    def tags(self, values: dict[str, Scalar]) -> None:
        self._append({"kind": "tags", "values": values})

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        """Finite numbers; `step` is the epoch, from 1, or 0 for a number that belongs to the
        whole run.
        """
        new: dict[str, Scalar] = {
            key: value for key, value in values.items() if (key, step) not in self._metrics
        }
        if new:
            self._append({"kind": "metrics", "values": new, "step": step})

    def dataset(self, *, name: str, digest: str, source: str) -> None:
        self._append({"kind": "dataset", "name": name, "digest": digest, "source": source})

    def artifact(self, path: str) -> None:
        """A finished file in the folder, by its path relative to it; written again, it is sent
        again.
        """
        self._append({"kind": "artifact", "path": path})

    def set_note(self, text: str) -> None:
        """What a person reads first about the run, in the Markdown of `description`; what stood
        there is replaced.
        """
        if text != self.description:
            self._append({"kind": "description", "text": text})

    def image(self, path: str, key: str) -> None:
        """A finished PNG in the folder, which MLflow's UI shows beside those of other runs with
        the same key.
        """
        self._append({"kind": "image", "path": path, "key": key})

    def view(self, key: str, name: str, state: str) -> None:
        """How MLflow's UI is to show the run's experiment; what is there already is not written
        again.
        """
        if self._views.get(key) != state:
            self._append({"kind": "view", "key": key, "name": name, "state": state})

    def model(self, path: str) -> None:
        """A finished MLflow model directory in the folder, by its path relative to it."""
        self._append({"kind": "model", "path": path})

    def extend(self, lines: bytes) -> None:
        """Events that were written to another journal of this run: whole lines, with their own
        times.
        """
        for line in lines.splitlines():
            self._note(json.loads(line))
        self._write(lines.decode("utf-8"))

    def end(self, status: TrialStatus, reason: str = "") -> None:
        """The last event, until the run is resumed.

        Args:
            status: how the run ended; any but running.
            reason: in words; empty if there is nothing to explain.
        """
        tags: dict[str, Scalar] = {"trial.state": status.value, "trial.reason": reason}
        self._append({"kind": "end", "status": status.mlflow_status, "values": tags})

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exception: object) -> None:
        """Let go of the lock."""
        self._file.close()

    def _lock(self, deadline: float) -> None:
        while True:
            try:
                return fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    self._file.close()
                    raise
                time.sleep(0.05)  # somebody may only be looking whether the run has ended

    def _note(self, event: Event) -> None:
        self.started = True
        self.ended = event["kind"] == "end" or (self.ended and event["kind"] != "resume")
        if event["kind"] == "params":
            self._params |= event["values"].keys()
        elif event["kind"] == "metrics":
            self._metrics |= {(key, event["step"]) for key in event["values"]}
        elif event["kind"] == "description":
            self.description = event["text"]
        elif event["kind"] == "view":
            self._views[event["key"]] = event["state"]

    def _append(self, event: Event) -> None:
        self._note(event)
        self._write(json.dumps({"time": time.time_ns() // 1_000_000, **event}) + "\n")

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()
        os.fsync(self._file.fileno())


def read(folder: Path, position: int = 0) -> Iterator[tuple[Event, int]]:
    """The events from byte `position` on, each with the position after it; a line still being
    written is left out.
    """
    if not (folder / JOURNAL).exists():
        return
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


def finalize_if_dead(folder: Path) -> bool:
    """Whether the run has started and its process is gone; if it died before it could write the
    end, writes it.
    """
    try:
        with Journal(folder, patience=0) as journal:
            if not journal.started:
                return False
            if end_tags(folder) is None:
                journal.end(TrialStatus.interrupted, "the process died")
    except BlockingIOError:
        return False
    return True


def end_tags(folder: Path) -> dict[str, Scalar] | None:
    """The tags with which the run ended, trial.state among them; None if it runs or no process
    wrote its end.
    """
    tags: dict[str, Scalar] | None = None
    for event, _ in read(folder):
        if event["kind"] in ("end", "resume"):
            tags = event["values"] if event["kind"] == "end" else None
    return tags


def history(folder: Path) -> dict[int, dict[str, float]]:
    """The metrics of each epoch, from 1; under 0 those that belong to the whole run."""
    epochs: dict[int, dict[str, float]] = {}
    for event, _ in read(folder):
        if event["kind"] == "metrics":
            epochs.setdefault(event["step"], {}).update(
                {key: float(value) for key, value in event["values"].items()}
            )
    return epochs


def _start(folder: Path) -> Event | None:
    """The first event, if the file is a journal at all, and can be read."""
    try:
        event, _ = next(read(folder))
    except (StopIteration, ValueError, OSError):
        return None
    return event if isinstance(event, dict) and event.get("kind") == "start" else None
