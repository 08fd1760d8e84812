"""A worker on a node of a Ray cluster, as the driver sees it."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray

from svhn_sweep.errors import SweepInterruptedError, Terminated
from svhn_sweep.sweep.workers.protocol import (
    EpochDone,
    Event,
    NodeFault,
    OutOfMemory,
    TrainRequest,
    WorkerExited,
    WorkerReady,
)
from svhn_sweep.sweep.workers.ray.folder_copy import TrialFolder
from svhn_sweep.tracking import tracking_uri


def last_line(error: BaseException) -> str:
    """The last line of an error's text, which in Ray's errors is the one that says it; without
    credentials.
    """
    text = re.sub(r"\x1b\[\d*m", "", tracking_uri.redacted(str(error)))  # Ray colours its errors
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


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
        self.trials = self.trials + 1
        self.threads = threads
        with _writes_of_folder():
            self._folder = TrialFolder(request.folder, request.run_info)
            state = self._folder.state()
            configs = {folder: _files(Path(folder)) for folder in request.config_dirs}
        with calls_of_ray():
            self.pending = self.actor.train.remote(
                request, state, configs, self.digits[request.data_sha256]
            )

    def answer(self, *, stop: bool) -> None:
        with calls_of_ray():
            self.pending = self.actor.answer.remote(stop)

    def next_event(self) -> Event:
        reference = self.pending
        self.pending = None
        try:
            reply: Any = ray.get(reference)
        except (OSError, ray.exceptions.LocalRayletDiedError) as error:
            if isinstance(error, ray.exceptions.RayTaskError):  # the actor's own OSError
                return self._failed(error)
            with calls_of_ray():
                raise
        except ray.exceptions.RayError as error:
            return self._failed(error)
        if not self.is_ready:
            self.is_ready = True
            return WorkerReady("" if reply in ("", "-1") else f"GPU {reply}")
        changes, event = reply
        assert self._folder is not None
        with _writes_of_folder():
            self._folder.apply(changes)
        if not isinstance(event, EpochDone):
            self._close_folder()
        if isinstance(event, NodeFault):
            return NodeFault(f"on node {self.node}: {event.reason}")
        return event  # type: ignore[no-any-return]

    def terminate(self) -> None:
        """Nothing is asked of the actor: of what it has finished, only a reply under way is
        lost.
        """
        if not ray.is_initialized():  # `ray.kill` would start a cluster
            return
        with suppress(
            OSError, RuntimeError, ray.exceptions.RayError
        ):  # Ray is gone, and the actor with it
            ray.kill(self.actor)

    def close(self, timeout: float) -> None:
        self._close_folder()

    def _failed(self, error: "ray.exceptions.RayError") -> Event:
        self._close_folder()
        self.on_exit()
        text = str(error)
        if not self.is_ready:
            lost = isinstance(error, ray.exceptions.ActorUnavailableError) or _is_of_node(text)
            return WorkerExited(
                True, f"no worker starts on node {self.node}: {last_line(error)}", node_lost=lost
            )
        if isinstance(error, ray.exceptions.OutOfMemoryError) or "running low on memory" in text:
            return OutOfMemory(f"node {self.node} had too little memory", whole_node=True)
        if _is_of_node(text):
            return WorkerExited(True, f"node {self.node} is gone", node_lost=True)
        if isinstance(error, ray.exceptions.ActorUnavailableError | ray.exceptions.ObjectLostError):
            return WorkerExited(True, f"the connection to node {self.node} broke", node_lost=True)
        if isinstance(error, ray.exceptions.RayActorError) and not error.actor_init_failed:
            return WorkerExited(True, f"the worker on node {self.node} ended unexpectedly")
        return NodeFault(f"on node {self.node}: {last_line(error)}")

    def _close_folder(self) -> None:
        folder = self._folder
        self._folder = None
        if folder is not None:
            with suppress(OSError):  # a full disk, which was told when it was written to
                folder.close()


def _is_of_node(text: str) -> bool:
    """Whether Ray says that an actor ended with its node, as ray 2.60's messages put it."""
    return "node has died" in text or "node was terminated" in text


@contextmanager
def calls_of_ray() -> Iterator[None]:
    """Within, the loss of Ray's own process on this machine ends the sweep with one sentence."""
    try:
        yield
    except SystemError as error:
        # Ray's C++ waits through a signal whose handler raised anything but KeyboardInterrupt
        # (Cython's check_signals).
        if isinstance(error.__cause__, Terminated):
            raise error.__cause__ from None
        raise
    except (OSError, ray.exceptions.RayError) as error:
        raise SweepInterruptedError(
            "Ray's node on this machine does not answer any more "
            f"({tracking_uri.reason(error)}); every finished epoch is "
            "kept, and the same command continues, on another cluster as well."
        ) from error


@contextmanager
def _writes_of_folder() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SweepInterruptedError(
            f"a trial's folder cannot be written: {error}; every "
            "finished epoch is kept, and the same command "
            "continues."
        ) from error


def _files(root: Path) -> dict[str, bytes]:
    """The configs in a folder, by path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.yaml"))}
