"""A worker on a node of a Ray cluster, as the node runs it."""

import os
import queue
import shutil
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

# Before svhn_sweep.data imports Matplotlib: a notebook that started Ray has set its own backend.
os.environ["MPLBACKEND"] = "agg"

import ray

from svhn_sweep import environment, machine
from svhn_sweep.data.splits import Splits
from svhn_sweep.sweep.workers.protocol import (
    EpochDone,
    NodeFault,
    OutOfMemory,
    TrainRequest,
    TrialEnded,
)
from svhn_sweep.sweep.workers.ray.folder_copy import FolderChanges, FolderCopy, FolderState
from svhn_sweep.sweep.workers.tasks import train_trial

SCRATCH_PREFIX = "svhn_sweep-"  # of workers' folders; the process id follows

TrialEvent = EpochDone | TrialEnded | OutOfMemory | NodeFault
Reply = tuple[FolderChanges, TrialEvent]


class TrialActor:
    """Trains one trial at a time, in a thread; each call returns the trial's next event.

    Ray runs the calls one after another in the main thread of the actor's own process.
    """

    _copy: FolderCopy  # of the present trial's folder

    def __init__(self, variables: Mapping[str, str], numeric_variables: Mapping[str, str]) -> None:
        """Imports TensorFlow.

        Args:
            variables: Variables that TensorFlow reads; Ray has set the device already.
            numeric_variables: The driver's variables that change numbers; those of the node have no
                influence.
        """
        os.environ.update(variables)
        environment.replace_numeric_variables(numeric_variables)
        self._scratch = _create_scratch()
        self._events: queue.SimpleQueue[TrialEvent] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
        import svhn_sweep.training.fit  # noqa: F401

    def ready(self) -> str:
        """Returns the GPU that it sees, as CUDA_VISIBLE_DEVICES names it, once it has started."""
        return os.environ.get("CUDA_VISIBLE_DEVICES", "")

    def train(
        self,
        request: TrainRequest,
        state: FolderState,
        config_files: Mapping[str, Mapping[str, bytes]],
        weights: bytes,
        digits: Splits,
    ) -> Reply:
        """Begins or resumes a trial and waits for its first event.

        Args:
            request: The trial; its folders are on the driver's machine.
            state: The files of the trial's folder.
            config_files: For each of the request's config folders its files: content by path.
            weights: The content of the request's initial weights; empty if there are none.
            digits: The trial's digits: read-only arrays that all workers of the node share.

        Returns:
            What has changed in the copy of the trial's folder, and the event.
        """
        shutil.rmtree(self._scratch)
        folder = self._scratch / "trial"
        folder.mkdir(parents=True)
        self._copy = FolderCopy(folder, state)
        config_dirs = _write_configs(self._scratch, config_files)
        request = _with_weights(request, self._scratch / "initial_weights.keras", weights)

        def should_stop(epoch: int, metrics: dict[str, float]) -> bool:
            self._events.put(EpochDone(epoch, metrics))
            return self._answers.get()

        def run() -> None:
            self._events.put(
                train_trial(request, folder, lambda config: digits, should_stop, config_dirs)
            )

        threading.Thread(target=run, name="trial", daemon=True).start()
        return self._next_reply()

    def answer(self, stop: bool) -> Reply:  # Ray passes arguments by position
        """Answers an `EpochDone`, as `Worker.answer` does, and waits for the next event."""
        self._answers.put(stop)
        return self._next_reply()

    def _next_reply(self) -> Reply:
        event = self._events.get()
        return self._copy.changes(), event


def _create_scratch() -> Path:
    """Creates this process' folder beside Ray's files; removes those of processes that ended."""
    context = ray.get_runtime_context()
    session = Path(context.get_temp_dir()) / context.get_session_name()
    parent = session if session.is_dir() else Path(tempfile.gettempdir())
    for folder in parent.glob(f"{SCRATCH_PREFIX}*"):
        pid = folder.name.removeprefix(SCRATCH_PREFIX)
        if pid.isdecimal() and not machine.is_running(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
    scratch = parent / f"{SCRATCH_PREFIX}{os.getpid()}"
    scratch.mkdir(exist_ok=True)
    return scratch


def _with_weights(request: TrainRequest, file: Path, content: bytes) -> TrainRequest:
    """Writes the initial weights to this node; the request returned names that file."""
    if request.initial_weights is None:
        return request
    file.write_bytes(content)
    return replace(request, initial_weights=replace(request.initial_weights, file=file))


def _write_configs(
    scratch: Path, config_files: Mapping[str, Mapping[str, bytes]]
) -> tuple[str, ...]:
    """Writes the user's config folders to this node and returns their paths."""
    roots = []
    for index, files in enumerate(config_files.values()):
        root = scratch / f"config-{index}"
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        roots.append(str(root))
    return tuple(roots)
