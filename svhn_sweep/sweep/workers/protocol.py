"""What the scheduler and its workers exchange, and what both kinds of workers and clusters have
in common.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from svhn_sweep.config.schema import Precision
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.trial import RunInfo
from svhn_sweep.trial_status import TrialStatus

CPU = "cpu"
SECONDS_TO_STOP = 4.0  # that a worker is given to end


@dataclass(frozen=True)
class TrainRequest:
    """A trial to be trained.

    Attributes:
        overrides: its config, with nothing left open.
        config_dirs: the user's own folders of configs, on the driver's machine.
        folder: the trial's own, on the driver's machine; what an interrupted trial left there is
            continued.
        run_info: what MLflow is told about it.
        data_sha256: of the file with its digits.
    """

    overrides: tuple[str, ...]
    config_dirs: tuple[str, ...]
    folder: Path
    run_info: RunInfo
    data_sha256: str


@dataclass(frozen=True)
class EvaluateRequest:
    """Models to be evaluated on test, after selection.

    Attributes:
        overrides: of a config that names the data.
        config_dirs: the user's own folders of configs.
        models: folders of runs that saved a model, by arm.
        shown: for each arm the run whose confusion matrix is drawn.
        folder: gets test/ARM/ with matrices and reports.
    """

    overrides: tuple[str, ...]
    config_dirs: tuple[str, ...]
    models: dict[str, tuple[Path, ...]]
    shown: dict[str, Path]
    folder: Path


@dataclass(frozen=True)
class EvaluateResult:
    """Test accuracies, 0..1, by arm, in the order of the models."""

    accuracies: dict[str, list[float]]


@dataclass(frozen=True)
class EpochDone:
    """An epoch is over and its checkpoint is written; the worker waits for an answer: whether to
    stop.
    """

    epoch: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class TrialEnded:
    """A trial is over: complete, pruned, diverged or failed. `reason`: in words."""

    status: TrialStatus
    reason: str


@dataclass(frozen=True)
class OutOfMemory:
    """A trial could not go on beside the others.

    Attributes:
        reason: in words.
        whole_node: the memory of the node, not of one device, was too small.
    """

    reason: str
    whole_node: bool = False


@dataclass(frozen=True)
class NodeFault:
    """The node, not the trial, is at fault: a full disk, say. The trial can go on elsewhere.
    `reason`: in words.
    """

    reason: str


@dataclass(frozen=True)
class WorkerExited:
    """The worker's process is gone.

    Attributes:
        external: something else than the trial may be the reason: a signal, say.
        reason: in words.
        node_lost: the node, or the way to it, is gone: certainly not for the trial's sake.
    """

    external: bool
    reason: str
    node_lost: bool = False


@dataclass(frozen=True)
class WorkerReady:
    """The worker has started: `Worker.is_ready` is true from now on. `device`: that it has;
    empty: its slot's.
    """

    device: str = ""


Event = WorkerReady | EpochDone | TrialEnded | OutOfMemory | NodeFault | WorkerExited


@dataclass(frozen=True)
class Slot:
    """Room for one worker.

    Attributes:
        node: the name of its node; empty for this machine.
        device: cpu, or a GPU as CUDA_VISIBLE_DEVICES names it.
        index: from 0, among the slots of that device of that node.
    """

    node: str
    device: str
    index: int


class Worker(Protocol):
    """A process, here or on another node, that trains one trial at a time, and is used for many.

    Attributes:
        is_ready: whether it may be handed a trial.
    """

    @property
    def is_ready(self) -> bool: ...

    def can_train(self, threads: int) -> bool:
        """Whether it may be handed another trial, with so many threads; else it is to be
        replaced.
        """

    def train(self, request: TrainRequest, threads: int) -> None:
        """Hand it a trial. If the worker is gone, that is its next event."""

    def answer(self, *, stop: bool) -> None:
        """After `EpochDone`: whether to stop the trial."""

    def next_event(self) -> Event:
        """The event that `Cluster.wait` announced."""

    def terminate(self) -> None:
        """Ask it to end. What it was training can be continued."""

    def close(self, timeout: float) -> None:
        """Have it gone after `timeout` seconds at the latest; from then on its trial's folder
        does not change.
        """


class Cluster(Protocol):
    """Where workers run.

    Attributes:
        threads: that TensorFlow uses in each worker, unless the config says otherwise.
    """

    threads: int

    def precision(self, wanted: Precision) -> Precision:
        """What `auto` means for all that compute here; anything else means itself."""

    def prepare(self, plans: Sequence[Plan]) -> None:
        """Before the first worker starts: make ready what the trials of these plans need."""

    def slots(self) -> Sequence[Slot]:
        """All slots that there are now: nodes may come and go.

        Raises:
            SweepInterruptedError: the cluster is gone, or has had no slot for too long.
        """

    def notices(self) -> list[str]:
        """What happened to nodes since the last call, in sentences."""

    def describe(self) -> str:
        """The present slots in words: "2 workers on the CPU"."""

    def start(self, slot: Slot) -> Worker:
        """Start a worker on a slot.

        Raises:
            SweepInterruptedError: the cluster is gone.
        """

    def wait(self, workers: Collection[Worker], timeout: float) -> list[Worker]:
        """Those with an event, after `timeout` seconds at most."""

    def evaluate(self, request: EvaluateRequest) -> EvaluateResult:
        """Evaluate models on test, on the driver's machine, which the test split never leaves.

        Raises:
            SweepError: that failed.
        """

    def close(self) -> None:
        """End what still runs."""
