"""What the scheduler makes of what workers, nodes and clusters do: a cluster of our own, with
real studies.
"""

import io
import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest
from optuna.trial import TrialState
from rich.console import Console
from studies import Studies, sweeper, write

from svhn_sweep.config.schema import Precision
from svhn_sweep.errors import SweepInterruptedError
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.terminal.progress import SweepProgress
from svhn_sweep.sweep.workers import scheduler as schedulers
from svhn_sweep.sweep.workers.protocol import (
    CPU,
    EvaluateRequest,
    EvaluateResult,
    Event,
    NodeFault,
    OutOfMemory,
    Slot,
    TrainRequest,
    TrialEnded,
    Worker,
    WorkerExited,
    WorkerReady,
)
from svhn_sweep.sweep.workers.scheduler import Scheduler
from svhn_sweep.tracking.background_uploader import BackgroundUploader
from svhn_sweep.tracking.journal import Journal, end_tags
from svhn_sweep.trial_status import TrialStatus

Behaviour = Callable[[TrainRequest], Event]


def completes(request: TrainRequest) -> Event:
    """Three epochs, written as a worker writes them."""
    with Journal(request.folder) as journal:
        request.run_info.start(journal)
        for epoch in (1, 2, 3):
            journal.metrics({"val/accuracy": epoch / 10, "epoch_seconds": 1.0}, step=epoch)
        journal.metrics({"val/macro_f1": 0.5})
        journal.end(TrialStatus.complete)
    return TrialEnded(TrialStatus.complete, "")


def begins_and(event: Event) -> Behaviour:
    """The journal has its start and no end, when the event comes."""

    def behaviour(request: TrainRequest) -> Event:
        with Journal(request.folder) as journal:
            request.run_info.start(journal)
        return event

    return behaviour


FULL_DISK = begins_and(NodeFault("no space left"))
LOST = begins_and(WorkerExited(True, "node is gone", node_lost=True))
KILLED = begins_and(WorkerExited(True, "the worker was ended by SIGKILL"))


@dataclass
class FakeWorker:
    slot: Slot
    behave: Behaviour
    is_ready: bool = True
    events: list[Event] = field(default_factory=list)

    def can_train(self, threads: int) -> bool:
        return True

    def train(self, request: TrainRequest, threads: int) -> None:
        self.events.append(self.behave(request))

    def answer(self, *, stop: bool) -> None:
        raise AssertionError("no epoch was told")

    def next_event(self) -> Event:
        event = self.events.pop(0)
        self.is_ready = self.is_ready or isinstance(event, WorkerReady)
        return event

    def terminate(self) -> None:
        self.events.clear()

    def close(self, timeout: float) -> None:
        pass


@dataclass
class FakeCluster:
    """`behaviours`: of each node's workers, trial by trial; the last goes on for ever."""

    nodes: dict[str, int]
    behaviours: dict[str, list[Behaviour]]
    starts: list[Event] = field(default_factory=list)  # what workers come to before they are ready
    threads: int = 1
    started: list[str] = field(default_factory=list)
    trained: list[str] = field(default_factory=list)
    looks: int = 0
    on_look: Callable[["FakeCluster"], None] = lambda cluster: None

    def precision(self, wanted: Precision) -> Precision:
        return wanted

    def prepare(self, plans: Sequence[Plan]) -> None:
        pass

    def slots(self) -> Sequence[Slot]:
        self.looks += 1
        self.on_look(self)
        assert self.looks < 1000, "it never ends"
        return [
            Slot(node, CPU, index) for node, count in self.nodes.items() for index in range(count)
        ]

    def notices(self) -> list[str]:
        return []

    def describe(self) -> str:
        return ""

    def start(self, slot: Slot) -> FakeWorker:
        self.started.append(slot.node)

        def behave(request: TrainRequest) -> Event:
            self.trained.append(slot.node)
            behaviours = self.behaviours[slot.node]
            return (behaviours.pop(0) if len(behaviours) > 1 else behaviours[0])(request)

        worker = FakeWorker(slot, behave)
        if self.starts:
            worker.is_ready = False
            worker.events.append(self.starts.pop(0))
        return worker

    def wait(self, workers: Collection[Worker], timeout: float) -> list[Worker]:
        return [worker for worker in workers if cast(FakeWorker, worker).events][:1]

    def evaluate(self, request: EvaluateRequest) -> EvaluateResult:
        raise AssertionError

    def close(self) -> None:
        pass


class Nobody:
    """In MLflow's place."""

    def watch(self, folder: Path) -> None:
        pass


@pytest.fixture(autouse=True)
def _faults_count_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedulers, "FAULT_SECONDS", 0.0)


def run(
    study: Study, cluster: FakeCluster, workers: str = "auto", deadline: float = math.inf
) -> str:
    """Train until the study has nothing left; returns what the terminal showed."""
    shown = io.StringIO()
    progress = SweepProgress(Console(file=shown, width=200), "val/accuracy", True, 1)
    progress.add_study(study.plan.name, study.n_trials, [])
    settings = replace(sweeper(), workers=workers, trial_timeout=None, max_consecutive_failures=5)
    Scheduler(settings, cluster, [], cast(BackgroundUploader, Nobody())).run_until_done(
        [study], progress, deadline
    )
    return shown.getvalue()


def states(study: Study) -> Counter[str]:
    return Counter(trial.state.name for trial in study.optuna.get_trials(deepcopy=False))


def test_every_slot_is_used_and_the_budget_is_kept(studies: Studies) -> None:
    cluster = FakeCluster({"a": 2, "b": 1}, {"a": [completes], "b": [completes]})
    study = studies.open(studies.plan(n_trials=7))
    run(study, cluster)
    assert states(study) == {"COMPLETE": 7}
    assert len(cluster.trained) == 7
    assert Counter(cluster.started) == {"a": 2, "b": 1}


def test_no_more_workers_start_than_there_are_trials(studies: Studies) -> None:
    cluster = FakeCluster({"a": 8}, {"a": [completes]})
    run(studies.open(studies.plan(n_trials=2)), cluster)
    assert len(cluster.started) == 2


@pytest.mark.parametrize("nodes", [{"a": 4}, {"a": 2, "b": 2}])
def test_no_more_workers_start_than_are_wanted_spread_over_the_nodes(
    studies: Studies, nodes: dict[str, int]
) -> None:
    cluster = FakeCluster(nodes, {"a": [completes], "b": [completes]})
    run(studies.open(studies.plan(n_trials=6)), cluster, workers="2")
    assert len(cluster.started) == 2
    assert set(cluster.started) == nodes.keys()


def test_a_faulty_node_gets_no_more_trials_and_another_has_them(studies: Studies) -> None:
    cluster = FakeCluster({"bad": 1, "good": 1}, {"bad": [FULL_DISK], "good": [completes]})
    study = studies.open(studies.plan(n_trials=20))
    shown = run(study, cluster)
    assert states(study) == {"COMPLETE": 20}
    assert cluster.trained.count("bad") == 3
    assert shown.count("node bad gets no more trials: no space left") == 1


def test_where_one_worker_is_wanted_it_is_not_kept_on_a_faulty_node(studies: Studies) -> None:
    cluster = FakeCluster({"bad": 1, "good": 1}, {"bad": [FULL_DISK], "good": [completes]})
    study = studies.open(studies.plan(n_trials=4))
    run(study, cluster, workers="1")
    assert states(study) == {"COMPLETE": 4}


def test_a_faulty_node_that_went_and_came_back_is_tried_again(studies: Studies) -> None:
    cluster = FakeCluster(
        {"a": 1, "b": 1}, {"a": [FULL_DISK, FULL_DISK, FULL_DISK, completes], "b": [completes]}
    )
    gone: list[int] = []

    def restart(cluster: FakeCluster) -> None:
        if cluster.trained.count("a") == 3 and not gone:
            gone.append(cluster.nodes.pop("a"))
        elif gone and "a" not in cluster.nodes:
            cluster.nodes["a"] = 1

    cluster.on_look = restart
    run(studies.open(studies.plan(n_trials=20)), cluster)
    assert cluster.trained.count("a") > 3


def test_where_every_node_is_faulty_the_sweep_ends_and_can_go_on(studies: Studies) -> None:
    cluster = FakeCluster({"": 2}, {"": [FULL_DISK]})
    study = studies.open(studies.plan(n_trials=4))
    with pytest.raises(
        SweepInterruptedError,
        match=r"^no worker can go on: no space left; the same command continues",
    ):
        run(study, cluster)
    assert states(study) == {"RUNNING": 2}
    again = studies.open(studies.plan(n_trials=4))
    run(again, FakeCluster({"": 2}, {"": [completes]}))
    assert states(again) == {"COMPLETE": 4}


@pytest.mark.parametrize("times", [1, 5])
def test_a_lost_node_is_never_the_trials_fault(studies: Studies, times: int) -> None:
    cluster = FakeCluster({"a": 1}, {"a": [*[LOST] * times, completes]})
    study = studies.open(studies.plan(n_trials=1))
    run(study, cluster)
    assert states(study) == {"COMPLETE": 1}


@pytest.mark.parametrize(("times", "state"), [(1, "COMPLETE"), (2, "COMPLETE"), (3, "FAIL")])
def test_a_trial_under_which_workers_are_killed_has_failed_the_third_time(
    studies: Studies, times: int, state: str
) -> None:
    cluster = FakeCluster({"a": 1}, {"a": [*[KILLED] * times, completes]})
    study = studies.open(studies.plan(n_trials=1))
    run(study, cluster)
    assert states(study) == {state: 1}


def test_an_interrupted_trial_that_waits_is_not_shown_as_running(studies: Studies) -> None:
    study = studies.open(studies.plan(n_trials=1))
    seen: list[object] = []

    def looks_first(request: TrainRequest) -> Event:
        seen.append((end_tags(request.folder) or {}).get("trial.state"))
        return completes(request)

    run(study, FakeCluster({"a": 1}, {"a": [LOST, looks_first]}))
    assert seen == ["interrupted"]


def test_a_worker_that_cannot_start_is_the_nodes_fault_and_a_lost_one_nobodys(
    studies: Studies,
) -> None:
    gone = WorkerExited(True, "node a is gone", node_lost=True)
    starts: list[Event] = [gone, gone, gone, gone, WorkerReady()]
    cluster = FakeCluster({"a": 1}, {"a": [completes]}, starts=starts)
    study = studies.open(studies.plan(n_trials=1))
    run(study, cluster)
    assert states(study) == {"COMPLETE": 1}
    broken = WorkerExited(True, "no worker starts on node a: no module")
    with pytest.raises(SweepInterruptedError, match="no worker starts on node a: no module"):
        run(
            studies.open(studies.plan(n_trials=2)),
            FakeCluster({"a": 1}, {"a": [completes]}, starts=[broken] * 9),
        )


def test_a_worker_that_does_not_start_in_time_is_given_up(
    studies: Studies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedulers, "START_SECONDS", -1.0)
    cluster = FakeCluster({"a": 1}, {"a": [completes]}, starts=[WorkerReady()] * 9)
    monkeypatch.setattr(cluster, "wait", lambda workers, timeout: [])
    with pytest.raises(SweepInterruptedError, match="no worker starts on node a within -1 s"):
        run(studies.open(studies.plan(n_trials=1)), cluster)


def test_short_memory_closes_a_slot_and_the_trial_goes_on(studies: Studies) -> None:
    short = begins_and(OutOfMemory("node a had too little memory", whole_node=True))
    cluster = FakeCluster({"a": 2}, {"a": [short, completes]})
    study = studies.open(studies.plan(n_trials=4))
    shown = run(study, cluster)
    assert states(study) == {"COMPLETE": 4}
    assert "1 of 2 workers from now on" in shown


def test_a_trial_whose_end_is_written_is_only_told(studies: Studies) -> None:
    study = studies.open(studies.plan(n_trials=1))
    assignment = study.next()
    assert assignment is not None
    write(study, assignment.number, 0.1, 0.2, 0.3)
    with Journal(study.folder(assignment.number)) as journal:
        journal.end(TrialStatus.complete)
    again = studies.open(studies.plan(n_trials=1))
    cluster = FakeCluster({"a": 1}, {"a": [completes]})
    run(again, cluster)
    assert cluster.trained == []
    assert [trial.state for trial in again.trials()] == [TrialState.COMPLETE]
