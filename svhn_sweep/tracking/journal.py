"""Records the events of a run in order in the run's own folder, without MLflow."""

import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from svhn_sweep.files import lock_file
from svhn_sweep.trial_status import TrialStatus

JOURNAL = "journal.jsonl"

Scalar = str | int | float | bool


class JournalEvent(TypedDict, total=False):
    """One line of a journal.

    `kind` and `time` are always there, the other keys as listed below.
    """

    # start, resume, description, params, tags, metrics, dataset, artifact, image, model, view, end
    kind: str
    time: int  # milliseconds since 1970
    # start: a unique id of the run, the same in every store; image, view: a key in MLflow's UI
    key: str
    store: str  # start: address of the MLflow store that the run is meant for, without a password
    experiment: str  # start
    parent: str  # start, of a nested run: the parent run's folder, relative to this one
    name: str  # start, dataset, view
    text: str  # description: Markdown
    digest: str  # dataset
    source: str  # dataset
    values: dict[str, Scalar]  # params, tags, metrics; end: tags
    step: int  # metrics
    path: str  # artifact, image, model: relative to the folder
    state: str  # view: the state of MLflow's UI, as JSON
    status: str  # end: FINISHED, FAILED or KILLED


class Journal:
    """Appends events to `folder/journal.jsonl` while it holds a lock on that file.

    The lock shows other processes that the run is alive. An appended event survives a crash of
    this process and of the machine. A run that was interrupted is resumed in the same journal:
    parameters, and metrics of a step, that the journal has already are not written again.

    Attributes:
        folder: The run's folder.
        description: The run's Markdown description; empty if it has none.
        started: Whether the journal has any event.
        ended: Whether the run ended and was not resumed since.
    """

    def __init__(self, folder: Path, timeout: float = 5.0) -> None:
        """Creates or opens the journal.

        Args:
            folder: The run's folder; created if it does not exist.
            timeout: Seconds to wait for another process to release the journal.

        Raises:
            BlockingIOError: Another process still holds the journal after `timeout`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._file = (folder / JOURNAL).open("a", encoding="utf-8")
        try:
            lock_file(self._file, timeout)  # `finalize_if_dead` holds it for a moment
        except BlockingIOError:
            self._file.close()
            raise
        content = (folder / JOURNAL).read_bytes()
        if content and not content.endswith(b"\n"):
            # A crash cut the last line short; it was never uploaded.
            self._file.truncate(content.rfind(b"\n") + 1)
        self._params: set[str] = set()
        self._metrics: dict[tuple[str, int], Scalar] = {}
        self._views: dict[str, str] = {}
        self.description = ""
        self.started = self.ended = False
        for event, _ in read(folder):
            self._update_state(event)

    def start(
        self, *, name: str, experiment: str, store: str, tags: dict[str, Scalar], parent: str = ""
    ) -> None:
        """Starts the run, or resumes it if it ended before; sets its tags in either case.

        Args:
            name: The run's name.
            experiment: The name of its MLflow experiment.
            store: The address of the MLflow store that it is meant for, without a password.
            tags: Added to the run's tags; a new value replaces an old one.
            parent: The folder of the parent run, relative to this one; empty if there is none.
        """
        if self.ended:
            self._append({"kind": "resume"})
        elif not self.started:
            start: JournalEvent = {"kind": "start", "key": uuid.uuid4().hex, "name": name}
            start |= {"experiment": experiment, "store": store}
            self._append(start | {"parent": parent} if parent else start)
        self.set_tags(tags)

    def log_params(self, values: dict[str, Scalar]) -> None:
        """Records parameters; a parameter keeps its first value, since MLflow takes no other."""
        new = {key: value for key, value in values.items() if key not in self._params}
        if new:
            self._append({"kind": "params", "values": new})

    def set_tags(self, values: dict[str, Scalar]) -> None:
        """Sets tags; a new value replaces an old one."""
        self._append({"kind": "tags", "values": values})

    def log_metrics(
        self, values: dict[str, float], step: int = 0, *, replace: bool = False
    ) -> None:
        """Records metrics; a metric keeps its first value at a step.

        Args:
            values: Finite numbers by metric.
            step: The epoch, from 1; 0 for a number of the whole run.
            replace: Whether another value at the step is recorded as well. Of values at one step
                the last one counts, in MLflow too.
        """
        new: dict[str, Scalar] = {
            key: value
            for key, value in values.items()
            if (key, step) not in self._metrics or (replace and self._metrics[key, step] != value)
        }
        if new:
            self._append({"kind": "metrics", "values": new, "step": step})

    def log_dataset(self, *, name: str, digest: str, source: str) -> None:
        """Records which data the run trains on."""
        self._append({"kind": "dataset", "name": name, "digest": digest, "source": source})

    def log_artifact(self, path: str) -> None:
        """Records a finished file by its path relative to the folder; each call uploads it anew."""
        self._append({"kind": "artifact", "path": path})

    def set_description(self, text: str) -> None:
        """Replaces the run's description, in the Markdown of `svhn_sweep.tracking.markdown`."""
        if text != self.description:
            self._append({"kind": "description", "text": text})

    def log_image(self, path: str, key: str) -> None:
        """Records a finished PNG, which MLflow's UI shows beside other runs' images of `key`."""
        self._append({"kind": "image", "path": path, "key": key})

    def set_view(self, key: str, name: str, state: str) -> None:
        """Records a saved view of the run's experiment, unless the journal has it already."""
        if self._views.get(key) != state:
            self._append({"kind": "view", "key": key, "name": name, "state": state})

    def log_model(self, path: str) -> None:
        """Records a finished MLflow model directory by its path relative to the folder."""
        self._append({"kind": "model", "path": path})

    def extend(self, lines: bytes) -> None:
        """Appends events of another journal of this run: whole lines, which keep their times."""
        for line in lines.splitlines():
            self._update_state(json.loads(line))
        self._write(lines.decode("utf-8"))

    def end(self, status: TrialStatus, reason: str = "") -> None:
        """Ends the run until it is resumed.

        Metrics, tags and a description may still follow, for example the difference to the
        baseline.

        Args:
            status: How the run ended; any but running.
            reason: Why; empty if there is nothing to explain.
        """
        tags: dict[str, Scalar] = {"trial.state": status.value, "trial.reason": reason}
        self._append({"kind": "end", "status": status.mlflow_status, "values": tags})

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file, which releases the lock."""
        self._file.close()

    def _update_state(self, event: JournalEvent) -> None:
        self.started = True
        self.ended = event["kind"] == "end" or (self.ended and event["kind"] != "resume")
        if event["kind"] == "params":
            self._params |= event["values"].keys()
        elif event["kind"] == "metrics":
            self._metrics |= {(key, event["step"]): n for key, n in event["values"].items()}
        elif event["kind"] == "description":
            self.description = event["text"]
        elif event["kind"] == "view":
            self._views[event["key"]] = event["state"]

    def _append(self, event: JournalEvent) -> None:
        self._update_state(event)
        self._write(json.dumps({"time": time.time_ns() // 1_000_000, **event}) + "\n")

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()
        os.fsync(self._file.fileno())


def read(folder: Path, offset: int = 0) -> Iterator[tuple[JournalEvent, int]]:
    """Yields the events from byte `offset` on, each with the offset of the next one.

    A last line that is still being written is left out.
    """
    if not (folder / JOURNAL).exists():
        return
    with (folder / JOURNAL).open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield json.loads(line), offset


def find_runs(root: Path) -> list[Path]:
    """Returns every folder with a started journal at or below `root`, sorted."""
    # A FIFO of that name would be read for ever.
    folders = sorted(path.parent for path in root.rglob(JOURNAL) if path.is_file())
    return [folder for folder in folders if _start_event(folder)]


def is_meant_for(folder: Path, store: str) -> bool:
    """Returns whether the run was started for the MLflow store at this address."""
    start = _start_event(folder)
    return start is not None and start["store"] == store


def finalize_if_dead(folder: Path) -> bool:
    """Records a run as interrupted if its process died before it could write the end.

    Returns:
        Whether the run has started and no process writes it any more.
    """
    if not (folder / JOURNAL).exists():  # a journal that is opened is created
        return False
    try:
        with Journal(folder, timeout=0) as journal:
            if not journal.started:
                return False
            if end_tags(folder) is None:
                journal.end(TrialStatus.interrupted, "the process died")
    except BlockingIOError:
        return False
    return True


def end_tags(folder: Path) -> dict[str, Scalar] | None:
    """Returns the tags with which the run ended: trial.state and trial.reason.

    Returns:
        None if the run has not ended, or was resumed since.
    """
    tags: dict[str, Scalar] | None = None
    for event, _ in read(folder):
        if event["kind"] in ("end", "resume"):
            tags = event["values"] if event["kind"] == "end" else None
    return tags


def history(folder: Path) -> dict[int, dict[str, float]]:
    """Returns the metrics of each epoch, from 1; under 0 the metrics of the whole run."""
    epochs: dict[int, dict[str, float]] = {}
    for event, _ in read(folder):
        if event["kind"] == "metrics":
            epochs.setdefault(event["step"], {}).update(
                {key: float(value) for key, value in event["values"].items()}
            )
    return epochs


def params(folder: Path) -> dict[str, Scalar]:
    """Returns the run's parameters."""
    events = (event for event, _ in read(folder) if event["kind"] == "params")
    return {key: value for event in events for key, value in event["values"].items()}


def _start_event(folder: Path) -> JournalEvent | None:
    """Returns the first event; None if the file is no journal or cannot be read."""
    try:
        event, _ = next(read(folder))
    except (StopIteration, ValueError, OSError):
        return None
    return event if isinstance(event, dict) and event.get("kind") == "start" else None
