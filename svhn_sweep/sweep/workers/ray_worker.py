"""A worker on a node of a Ray cluster, as the driver sees it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray

from svhn_sweep.errors import SweepInterruptedError
from svhn_sweep.sweep.workers.folder_copy import TrialFolder
from svhn_sweep.sweep.workers.protocol import (
    EpochDone,
    Event,
    NodeFault,
    OutOfMemory,
    TrainRequest,
    WorkerExited,
    WorkerReady,
)
from svhn_sweep.tracking import store


class RayWorker:
    """An actor. What it trains is written to the trial's folder here, with each of its replies.

    Attributes:
        pending: Ray's reference to the actor's next reply; None while it has nothing to do.
    """

    def __init__(
        self,
        actor: "ray.actor.ActorHandle",
        node: str,
        digits: Mapping[str, "ray.ObjectRef"],
        max_trials: int,
        on_exit: Callable[[], None],
    ) -> None:
        """Wait for an actor to start.

        Args:
            actor: it.
            node: the name of its node.
            digits: in Ray's object store, by their SHA-256.
            max_trials: that it trains, before it is to be replaced.
            on_exit: called when the actor is gone: its node may be gone, too.
        """
        self.on_exit = on_exit
        self.actor, self.node, self.digits, self.max_trials = actor, node, digits, max_trials
        self.trials, self.threads = 0, 0
        self.is_ready = False
        self.pending: ray.ObjectRef | None = actor.ready.remote()
        self._folder: TrialFolder | None = None

    def can_train(self, threads: int) -> bool:
        # TensorFlow keeps memory from trial to trial, and cannot change its threads.
        return self.trials < self.max_trials and self.threads in (0, threads)

    def train(self, request: TrainRequest, threads: int) -> None:
        self.trials, self.threads = self.trials + 1, threads
        self._folder = TrialFolder(request.folder, request.run_info)
        configs = {folder: _files(Path(folder)) for folder in request.config_dirs}
        digits = self.digits[request.data_sha256]
        self.pending = self.actor.train.remote(request, self._folder.state(), configs, digits)

    def answer(self, *, stop: bool) -> None:
        self.pending = self.actor.answer.remote(stop)

    def next_event(self) -> Event:
        reference, self.pending = self.pending, None
        try:
            reply: Any = ray.get(reference)
        except ray.exceptions.RayError as error:
            return self._failed(error)
        if not self.is_ready:
            self.is_ready = True
            return WorkerReady()
        changes, event = reply
        assert self._folder is not None
        try:
            self._folder.apply(changes)
        except OSError as error:
            raise SweepInterruptedError(
                f"a trial's folder cannot be written: {error}; every finished epoch is kept, and the same command "
                "continues."
            ) from error
        if not isinstance(event, EpochDone):
            self._close_folder()
        if isinstance(event, NodeFault):
            return NodeFault(f"on node {self.node}: {event.reason}")
        return event  # type: ignore[no-any-return]

    def terminate(self) -> None:
        """Nothing is asked of the actor: all its finished epochs are here."""
        ray.kill(self.actor)

    def close(self, timeout: float) -> None:
        self._close_folder()

    def _failed(self, error: "ray.exceptions.RayError") -> Event:
        self._close_folder()
        self.on_exit()
        text = str(error)
        if not self.is_ready:
            return WorkerExited(True, f"no worker starts on node {self.node}: {store.reason(error)}")
        if isinstance(error, ray.exceptions.OutOfMemoryError) or "running low on memory" in text:
            return OutOfMemory(f"node {self.node} had too little memory", whole_node=True)
        if "node has died" in text or "node was terminated" in text:
            return WorkerExited(True, f"node {self.node} is gone")
        if isinstance(error, ray.exceptions.ActorUnavailableError | ray.exceptions.ObjectLostError):
            return WorkerExited(True, f"the connection to node {self.node} broke")
        if isinstance(error, ray.exceptions.RayActorError) and not error.actor_init_failed:
            return WorkerExited(True, f"the worker on node {self.node} ended unexpectedly")
        return NodeFault(f"on node {self.node}: {store.reason(error).splitlines()[0]}")

    def _close_folder(self) -> None:
        if self._folder is not None:
            self._folder.close()
            self._folder = None


def _files(root: Path) -> dict[str, bytes]:
    """The configs in a folder, by path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.yaml"))}
