"""A worker on a node of a Ray cluster, as the node runs it."""

import os
import queue
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

import ray

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

SCRATCH = "svhn_sweep-"  # folders of workers begin with this; their process id follows

TrialEvent = EpochDone | TrialEnded | OutOfMemory | NodeFault
Reply = tuple[FolderChanges, TrialEvent]


class TrialActor:
    """Trains one trial at a time, in a thread; each call returns with the trial's next event.

    Ray runs the calls one after another in the main thread of the actor's own process.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Load TensorFlow. `environment`: what it reads when it is imported, beside the device
        that Ray has set.
        """
        os.environ.update(environment)
        self.scratch = _scratch()
        self.events: queue.SimpleQueue[TrialEvent] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
        import svhn_sweep.training.fit  # noqa: F401

    def ready(self) -> str:
        """Returns once the worker has started: the GPU that it sees, as CUDA_VISIBLE_DEVICES
        names it.
        """
        return os.environ.get("CUDA_VISIBLE_DEVICES", "")

    def train(
        self,
        request: TrainRequest,
        state: FolderState,
        config_files: Mapping[str, Mapping[str, bytes]],
        digits: Splits,
    ) -> Reply:
        """Begin a trial, or go on with it.

        Args:
            request: what to train; its folders are on the driver's machine.
            state: of the trial's folder.
            config_files: the content of each of the request's folders of configs, by path.
            digits: of the trial; their arrays are this node's, shared by all its workers, and
                read-only.
        """
        shutil.rmtree(self.scratch)
        folder = self.scratch / "trial"
        folder.mkdir(parents=True)
        self.copy = FolderCopy(folder, state)
        config_dirs = _write_configs(self.scratch, config_files)

        def should_stop(epoch: int, metrics: dict[str, float]) -> bool:
            self.events.put(EpochDone(epoch, metrics))
            return self.answers.get()

        def work() -> None:
            self.events.put(
                train_trial(request, folder, lambda config: digits, should_stop, config_dirs)
            )

        threading.Thread(target=work, name="trial", daemon=True).start()
        return self._next()

    def answer(self, stop: bool) -> Reply:  # Ray passes arguments by position
        """After an epoch: whether to stop."""
        self.answers.put(stop)
        return self._next()

    def _next(self) -> Reply:
        event = self.events.get()
        return self.copy.changes(), event


def _scratch() -> Path:
    """A folder for this process, beside Ray's other files of this session; those of dead
    processes are removed.
    """
    context = ray.get_runtime_context()
    session = Path(context.get_temp_dir()) / context.get_session_name()
    parent = session if session.is_dir() else Path(tempfile.gettempdir())
    for folder in parent.glob(f"{SCRATCH}*"):
        if not Path("/proc", folder.name.removeprefix(SCRATCH)).exists():
            shutil.rmtree(folder, ignore_errors=True)
    scratch = parent / f"{SCRATCH}{os.getpid()}"
    scratch.mkdir(exist_ok=True)
    return scratch


def _write_configs(
    scratch: Path, config_files: Mapping[str, Mapping[str, bytes]]
) -> tuple[str, ...]:
    """The user's own folders of configs on this node."""
    roots = []
    for index, files in enumerate(config_files.values()):
        root = scratch / f"config-{index}"
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        roots.append(str(root))
    return tuple(roots)
