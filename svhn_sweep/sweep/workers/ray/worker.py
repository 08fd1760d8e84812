"""A worker on a node of a Ray cluster, as the driver uses it."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import ray

from svhn_sweep.errors import SweepInterruptedError, Terminated
from svhn_sweep.sweep.workers.limited_worker import LimitedWorker
from svhn_sweep.sweep.workers.protocol import (
    EpochDone,
    NodeFault,
    OutOfMemory,
    TrainRequest,
    WorkerEvent,
    WorkerExited,
    WorkerReady,
)
from svhn_sweep.sweep.workers.ray.actor import Reply
from svhn_sweep.sweep.workers.ray.folder_copy import TrialFolder
from svhn_sweep.tracking import tracking_uri


class RayWorker(LimitedWorker):
    """An actor; see `Worker`. Each of its replies updates the trial's folder.

    Attributes:
        is_ready: Whether the actor has started.
        next_reply: Ray's reference to the actor's next reply; None while it has nothing to do.
    """

    def __init__(
        self,
        actor: "ray.actor.ActorHandle",
        node: str,
        digits: Mapping[str, "ray.ObjectRef"],
        max_trials: int,
        on_exit: Callable[[], None],
    ) -> None:
        """Asks the actor for its device, which it returns once it has started.

        Args:
            actor: A `TrialActor`, which may still be starting.
            node: Name of the actor's node.
            digits: The digits in Ray's object store, by their SHA-256.
            max_trials: The most trials that it trains.
            on_exit: Is called when the actor has ended; its node may be lost, too.
        """
        super().__init__(max_trials)
        self.actor = actor
        self.node = node
        self.digits = digits
        self.on_exit = on_exit
        self.is_ready = False
        self.next_reply: ray.ObjectRef | None = actor.ready.remote()
        self._folder: TrialFolder | None = None

    def train(self, request: TrainRequest, threads: int) -> None:
        """Opens the trial's folder and sends the trial to the actor with what it needs."""
        self.count_trial(threads)
        with _interrupted_by_disk():
            self._folder = TrialFolder(request.folder, request.run_info)
            state = self._folder.state()
            config_files = {folder: _yaml_files(Path(folder)) for folder in request.config_dirs}
            weights = request.initial_weights.file.read_bytes() if request.initial_weights else b""
        with interrupted_by_ray():
            self.next_reply = self.actor.train.remote(
                request, state, config_files, weights, self.digits[request.data_sha256]
            )

    def answer(self, *, stop: bool) -> None:
        """Sends the answer to the actor."""
        with interrupted_by_ray():
            self.next_reply = self.actor.answer.remote(stop)

    def next_event(self) -> WorkerEvent:
        """Returns the event in the actor's reply; updates the trial's folder before.

        An error of Ray becomes an event, unless Ray's own process on this machine is gone.
        """
        reference = self.next_reply
        self.next_reply = None
        try:
            reply: object = ray.get(reference)
        except (OSError, ray.exceptions.LocalRayletDiedError) as error:
            if isinstance(error, ray.exceptions.RayTaskError):  # an OSError within the actor
                return self._failure(error)
            with interrupted_by_ray():
                raise
        except ray.exceptions.RayError as error:
            return self._failure(error)
        if not self.is_ready:
            self.is_ready = True
            return WorkerReady("" if reply in ("", "-1") else f"GPU {reply}")
        return self._trial_event(cast(Reply, reply))

    def terminate(self) -> None:
        """Kills the actor; of the epochs that it has finished only the last one may be lost."""
        if not ray.is_initialized():  # `ray.kill` would start a cluster
            return
        # Where Ray is gone, the actor is gone, too.
        with suppress(OSError, RuntimeError, ray.exceptions.RayError):
            ray.kill(self.actor)

    def close(self, timeout: float) -> None:
        """Releases the trial's folder; the actor itself never writes to it."""
        self._close_folder()

    def _trial_event(self, reply: Reply) -> WorkerEvent:
        changes, event = reply
        assert self._folder is not None
        with _interrupted_by_disk():
            self._folder.apply(changes)
        if not isinstance(event, EpochDone):
            self._close_folder()
        if isinstance(event, NodeFault):
            return NodeFault(f"on node {self.node}: {event.reason}")
        return event

    def _failure(self, error: "ray.exceptions.RayError") -> WorkerEvent:
        """The event that an error of Ray stands for."""
        self._close_folder()
        self.on_exit()
        text = str(error)
        unavailable = isinstance(error, ray.exceptions.ActorUnavailableError)
        if not self.is_ready:
            return WorkerExited(
                True,
                f"no worker starts on node {self.node}: {last_line(error)}",
                node_lost=unavailable or _names_dead_node(text),
            )
        if isinstance(error, ray.exceptions.OutOfMemoryError) or "running low on memory" in text:
            return OutOfMemory(f"node {self.node} had too little memory", whole_node=True)
        if _names_dead_node(text):
            return WorkerExited(True, f"node {self.node} is gone", node_lost=True)
        if unavailable or isinstance(error, ray.exceptions.ObjectLostError):
            return WorkerExited(True, f"the connection to node {self.node} broke", node_lost=True)
        if isinstance(error, ray.exceptions.RayActorError) and not error.actor_init_failed:
            return WorkerExited(True, f"the worker on node {self.node} ended unexpectedly")
        return NodeFault(f"on node {self.node}: {last_line(error)}")

    def _close_folder(self) -> None:
        folder = self._folder
        self._folder = None
        if folder is not None:
            with suppress(OSError):  # a full disk, which the last write to it has reported
                folder.close()


def last_line(error: BaseException) -> str:
    """Returns the last line of an error's text, where Ray puts the cause; without credentials."""
    # Ray colours its messages.
    text = re.sub(r"\x1b\[\d*m", "", tracking_uri.redact(str(error)))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


@contextmanager
def interrupted_by_ray() -> Iterator[None]:
    """Runs calls of Ray; ends the sweep with one sentence if they fail.

    Raises:
        SweepInterruptedError: Ray's process on this machine, or its head, is gone.
    """
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
def _interrupted_by_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SweepInterruptedError(
            f"a trial's folder cannot be written: {error}; every finished epoch is kept, "
            "and the same command continues."
        ) from error


def _names_dead_node(text: str) -> bool:
    """Whether an error's text, as of ray 2.60, says that an actor ended with its node."""
    return "node has died" in text or "node was terminated" in text


def _yaml_files(root: Path) -> dict[str, bytes]:
    """The contents of all config files in a folder, by relative path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.yaml"))}
