"""A cluster without processes: what its workers do is given trial by trial."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from svhn_sweep.config.schema import Precision
from svhn_sweep.errors import SweepError
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.workers.evaluation_requests import (
    ModelsRequest,
    Result,
    TimeRequest,
    TimeResult,
)
from svhn_sweep.sweep.workers.protocol import (
    CPU,
    Slot,
    TrainRequest,
    TrialEnded,
    Worker,
    WorkerEvent,
    WorkerReady,
)
from svhn_sweep.tracking.journal import Journal
from svhn_sweep.trial_status import TrialStatus

Behaviour = Callable[[TrainRequest], WorkerEvent]


def completes(request: TrainRequest) -> WorkerEvent:
    """Writes the journal of three epochs, as a worker does."""
    with Journal(request.folder) as journal:
        request.run_info.start(journal)
        for epoch in (1, 2, 3):
            journal.log_metrics({"val/accuracy": epoch / 10, "epoch_seconds": 1.0}, step=epoch)
        journal.log_metrics({"val/macro_f1": 0.5})
        journal.end(TrialStatus.complete)
    return TrialEnded(TrialStatus.complete, "")


def begins_and(event: WorkerEvent) -> Behaviour:
    """Writes the start of the journal, but no end, and sends an event."""

    def begin(request: TrainRequest) -> WorkerEvent:
        with Journal(request.folder) as journal:
            request.run_info.start(journal)
        return event

    return begin


@dataclass
class FakeWorker:
    """A worker whose events follow from what `behave` does with a trial."""

    slot: Slot
    behave: Behaviour
    is_ready: bool = True
    events: list[WorkerEvent] = field(default_factory=list)

    def can_train(self, threads: int) -> bool:
        return True

    def train(self, request: TrainRequest, threads: int) -> None:
        self.events.append(self.behave(request))

    def answer(self, *, stop: bool) -> None:
        raise AssertionError("there was no EpochDone")

    def next_event(self) -> WorkerEvent:
        event = self.events.pop(0)
        self.is_ready = self.is_ready or isinstance(event, WorkerReady)
        return event

    def terminate(self) -> None:
        self.events.clear()

    def close(self, timeout: float) -> None:
        pass


@dataclass
class FakeCluster:
    """A cluster whose workers do what is given.

    Attributes:
        nodes: The number of slots of each node.
        behaviours: What the workers of each node do, trial by trial; the last one is repeated.
        first_events: First events of workers that are not ready at once.
        started: The node of each worker that was started.
        trained: The node of each trial that was started.
        updates: How often the scheduler asked for the slots.
        on_update: Is called before the slots are returned.
        seconds: Of each pass of a trial's model; None for a cluster that cannot time models.
        timed: The overrides of the models that were timed, by the number of their trial.
    """

    nodes: dict[str, int]
    behaviours: dict[str, list[Behaviour]]
    first_events: list[WorkerEvent] = field(default_factory=list)
    threads: int = 1
    started: list[str] = field(default_factory=list)
    trained: list[str] = field(default_factory=list)
    updates: int = 0
    on_update: Callable[["FakeCluster"], None] = lambda cluster: None
    seconds: Mapping[int, list[float]] | None = None
    timed: list[dict[int, tuple[str, ...]]] = field(default_factory=list)

    def resolve_precision(self, precision: Precision) -> Precision:
        return precision

    def prepare(self, plans: Sequence[Plan]) -> None:
        pass

    def slots(self) -> Sequence[Slot]:
        self.updates += 1
        self.on_update(self)
        assert self.updates < 1000, "the scheduler does not end"
        return [
            Slot(node, CPU, index) for node, count in self.nodes.items() for index in range(count)
        ]

    def notices(self) -> list[str]:
        return []

    def describe(self) -> str:
        return ""

    def start(self, slot: Slot) -> FakeWorker:
        self.started.append(slot.node)

        def behave(request: TrainRequest) -> WorkerEvent:
            self.trained.append(slot.node)
            behaviours = self.behaviours[slot.node]
            return (behaviours.pop(0) if len(behaviours) > 1 else behaviours[0])(request)

        worker = FakeWorker(slot, behave)
        if self.first_events:
            worker.is_ready = False
            worker.events.append(self.first_events.pop(0))
        return worker

    def wait(self, workers: Collection[Worker], timeout: float) -> list[Worker]:
        return [worker for worker in workers if cast(FakeWorker, worker).events][:1]

    def evaluate(self, request: ModelsRequest[Result]) -> Result:
        assert isinstance(request, TimeRequest)
        self.timed.append(request.overrides)
        if self.seconds is None:
            raise SweepError("the models could not be timed: no luck.")
        seconds = {number: self.seconds[number] for number in request.overrides}
        return cast(Result, TimeResult(seconds))

    def close(self) -> None:
        pass
