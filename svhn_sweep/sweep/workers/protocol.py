"""The messages between the scheduler and its workers, and the interfaces of both kinds of workers.

A worker's events come in this order. The first is `WorkerReady`. For each trial there is one
`EpochDone` per epoch, which the scheduler answers with `Worker.answer`, then one of `TrialEnded`,
`OutOfMemory` and `NodeFault`. `WorkerExited` can come at any time and is the last event.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from svhn_sweep.config.schema import Precision
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.workers.evaluation_requests import ModelsRequest, Result
from svhn_sweep.tracking.run_info import RunInfo
from svhn_sweep.training.initial_weights import InitialWeights
from svhn_sweep.trial_status import TrialStatus

CPU = "cpu"
STOP_TIMEOUT_SECONDS = 4.0  # from asking a worker to end until it is killed


@dataclass(frozen=True)
class TrainRequest:
    """Asks a worker to train a trial, or to resume it after its last epoch.

    Attributes:
        overrides: Hydra overrides that fix the trial's config: data, precision and threads, too.
        config_dirs: The user's own config folders, on the driver's machine.
        folder: The trial's folder, on the driver's machine. The journal and checkpoint of an
            interrupted trial are in it.
        run_info: Name, experiment and tags of the trial's MLflow run.
        data_sha256: Hexadecimal SHA-256 that the data file must have.
        initial_weights: Those that the config names, in a file on the driver's machine; or None.
    """

    overrides: tuple[str, ...]
    config_dirs: tuple[str, ...]
    folder: Path
    run_info: RunInfo
    data_sha256: str
    initial_weights: InitialWeights | None = None


@dataclass(frozen=True)
class EpochDone:
    """An epoch is trained and its checkpoint written; the worker waits for `Worker.answer`.

    Attributes:
        epoch: Its number, from 1.
        metrics: By MLflow's keys, as in `val/accuracy`.
    """

    epoch: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class TrialEnded:
    """A trial is over and is not continued.

    Attributes:
        status: complete, pruned, diverged or failed.
        reason: Why it ended this way; empty if there is nothing to explain.
    """

    status: TrialStatus
    reason: str


@dataclass(frozen=True)
class OutOfMemory:
    """A trial ended early because memory was too small; it can be continued where there is more.

    Attributes:
        reason: What ran out of memory.
        whole_node: Whether the node's memory was too small, not that of one device.
    """

    reason: str
    whole_node: bool = False


@dataclass(frozen=True)
class NodeFault:
    """A trial ended early because of its node, of a full disk for example; it can be continued.

    Attributes:
        reason: What is wrong with the node.
    """

    reason: str


@dataclass(frozen=True)
class WorkerExited:
    """The worker's process has ended, or cannot be reached any more.

    Attributes:
        external: Whether something other than the trial may be the cause, a signal for example.
        reason: How it ended.
        node_lost: Whether its node, or the connection to it, is lost: the trial is not the cause.
    """

    external: bool
    reason: str
    node_lost: bool = False


@dataclass(frozen=True)
class WorkerReady:
    """The worker has imported TensorFlow: `Worker.is_ready` is true from now on.

    Attributes:
        device: The device that it uses; empty if it is its slot's.
    """

    device: str = ""


WorkerEvent = WorkerReady | EpochDone | TrialEnded | OutOfMemory | NodeFault | WorkerExited


@dataclass(frozen=True)
class Slot:
    """A device, or a share of it, that one worker at a time can use.

    Attributes:
        node: Name of its node; empty for this machine.
        device: `cpu`, or a GPU as CUDA_VISIBLE_DEVICES names it.
        index: Its number, from 0, among the slots of that device of that node.
    """

    node: str
    device: str
    index: int


class Worker(Protocol):
    """A process on this machine or on another node that trains one trial at a time.

    Only `close` waits for the process.
    """

    @property
    def is_ready(self) -> bool:
        """Whether `train` may be called."""

    def can_train(self, threads: int) -> bool:
        """Returns whether it can train one more trial with this number of threads.

        Once it returns false the scheduler replaces the worker.
        """

    def train(self, request: TrainRequest, threads: int) -> None:
        """Begins or resumes a trial; the worker must be ready and have no other trial.

        If the worker has ended already, its next event is `WorkerExited`.

        Raises:
            SweepInterruptedError: The trial's folder cannot be written, or the cluster is gone.
        """

    def answer(self, *, stop: bool) -> None:
        """Answers an `EpochDone`.

        Args:
            stop: Whether to end the trial as pruned instead of training the next epoch.
        """

    def next_event(self) -> WorkerEvent:
        """Returns the event that `Cluster.wait` announced, once for each announcement.

        If the worker sent the event, the trial's folder on the driver's machine is up to date.

        Raises:
            SweepInterruptedError: The trial's folder cannot be written, or the cluster is gone.
        """

    def terminate(self) -> None:
        """Makes the process end soon; what it was training can be continued."""

    def close(self, timeout: float) -> None:
        """Waits for the process to end and releases the folder of its trial.

        From then on no worker writes to the folder. Call `terminate` before.

        Args:
            timeout: Seconds after which the process is killed; 0 or less kills it at once.
        """


class Cluster(Protocol):
    """The machine or machines on which workers run.

    Attributes:
        threads: Threads that TensorFlow uses in each worker, unless the config sets them.
    """

    threads: int

    def resolve_precision(self, precision: Precision) -> Precision:
        """Returns what `auto` stands for on all nodes; any other precision is returned as it is.

        Raises:
            ConfigError: No node computes in it.
        """

    def prepare(self, plans: Sequence[Plan]) -> None:
        """Makes available the digits that the trials of these plans need.

        It is called once, before the first worker starts.

        Raises:
            SweepInterruptedError: The cluster cannot hold the digits.
        """

    def slots(self) -> Sequence[Slot]:
        """Returns all present slots; they change when nodes join or leave.

        Raises:
            SweepInterruptedError: The cluster is gone, or has had no slot for too long.
        """

    def notices(self) -> list[str]:
        """Returns one sentence for each change of nodes since the last call."""

    def describe(self) -> str:
        """Returns the present workers as text: "2 workers on the CPU"."""

    def start(self, slot: Slot) -> Worker:
        """Starts a worker on a present slot and returns at once.

        Raises:
            SweepInterruptedError: The cluster is gone.
        """

    def wait(self, workers: Collection[Worker], timeout: float) -> list[Worker]:
        """Waits for events.

        Args:
            workers: Those whose events count; all of this cluster, possibly none.
            timeout: Longest wait in seconds.

        Returns:
            The workers with an event; empty after `timeout` seconds without one.

        Raises:
            SweepInterruptedError: The cluster is gone.
        """

    def evaluate(self, request: ModelsRequest[Result]) -> Result:
        """Predicts with models in a process of the driver's machine and waits for the result.

        No trial is trained meanwhile or afterwards. The test split does not leave the machine.

        Raises:
            SweepError: There is no result.
        """

    def close(self) -> None:
        """Ends all workers that still run and releases the cluster."""
