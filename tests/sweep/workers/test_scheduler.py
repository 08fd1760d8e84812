"""How the scheduler reacts to workers and nodes: a fake cluster with real studies."""

import io
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from fake_cluster import FakeCluster, begins_and, completes
from optuna.trial import TrialState
from rich.console import Console
from studies import Studies, sweeper, write

from svhn_sweep.errors import SweepError, SweepInterruptedError
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.terminal.progress import SweepProgress
from svhn_sweep.sweep.workers import fault_counts
from svhn_sweep.sweep.workers import scheduler as schedulers
from svhn_sweep.sweep.workers.protocol import (
    NodeFault,
    OutOfMemory,
    TrainRequest,
    WorkerEvent,
    WorkerExited,
    WorkerReady,
)
from svhn_sweep.sweep.workers.scheduler import Scheduler
from svhn_sweep.tracking.background_uploader import BackgroundUploader
from svhn_sweep.tracking.journal import Journal, end_tags
from svhn_sweep.trial_end import CHECKPOINT
from svhn_sweep.trial_status import TrialStatus

FULL_DISK = begins_and(NodeFault("no space left"))
LOST = begins_and(WorkerExited(True, "node is gone", node_lost=True))
KILLED = begins_and(WorkerExited(True, "the worker was ended by SIGKILL"))


class NoUploader:
    """Takes the place of the uploader to MLflow."""

    def watch(self, folder: Path) -> None:
        pass


@pytest.fixture(autouse=True)
def _every_fault_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_counts, "FAULT_WINDOW_SECONDS", 0.0)


def run(
    study: Study, cluster: FakeCluster, workers: str = "auto", deadline: float = math.inf
) -> str:
    """Train until the study has nothing left; returns the terminal's output."""
    output = io.StringIO()
    progress = SweepProgress(Console(file=output, width=200), "val/accuracy", True, 1)
    progress.add_study(study.plan.name, study.n_trials, [])
    settings = replace(sweeper(), workers=workers, trial_timeout=None, max_consecutive_failures=5)
    Scheduler(settings, cluster, [], cast(BackgroundUploader, NoUploader())).run_until_done(
        [study], progress, deadline
    )
    return output.getvalue()


def states(study: Study) -> Counter[str]:
    return Counter(trial.state.name for trial in study.optuna_study.get_trials(deepcopy=False))


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
def test_no_more_workers_start_than_the_settings_allow_spread_over_the_nodes(
    studies: Studies, nodes: dict[str, int]
) -> None:
    cluster = FakeCluster(nodes, {"a": [completes], "b": [completes]})
    run(studies.open(studies.plan(n_trials=6)), cluster, workers="2")
    assert len(cluster.started) == 2
    assert set(cluster.started) == nodes.keys()


def test_a_node_with_three_faults_gets_no_more_trials_and_another_trains_them(
    studies: Studies,
) -> None:
    cluster = FakeCluster({"bad": 1, "good": 1}, {"bad": [FULL_DISK], "good": [completes]})
    study = studies.open(studies.plan(n_trials=20))
    output = run(study, cluster)
    assert states(study) == {"COMPLETE": 20}
    assert cluster.trained.count("bad") == 3
    assert output.count("node bad gets no more trials: no space left") == 1


def test_a_single_worker_moves_away_from_a_faulty_node(studies: Studies) -> None:
    cluster = FakeCluster({"bad": 1, "good": 1}, {"bad": [FULL_DISK], "good": [completes]})
    study = studies.open(studies.plan(n_trials=4))
    run(study, cluster, workers="1")
    assert states(study) == {"COMPLETE": 4}


def test_a_faulty_node_that_left_and_returned_is_tried_again(studies: Studies) -> None:
    cluster = FakeCluster(
        {"a": 1, "b": 1}, {"a": [FULL_DISK, FULL_DISK, FULL_DISK, completes], "b": [completes]}
    )
    gone: list[int] = []

    def leave_and_return(cluster: FakeCluster) -> None:
        if cluster.trained.count("a") == 3 and not gone:
            gone.append(cluster.nodes.pop("a"))
        elif gone and "a" not in cluster.nodes:
            cluster.nodes["a"] = 1

    cluster.on_update = leave_and_return
    run(studies.open(studies.plan(n_trials=20)), cluster)
    assert cluster.trained.count("a") > 3


def test_where_every_node_is_faulty_the_sweep_is_interrupted_and_can_be_continued(
    studies: Studies,
) -> None:
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
def test_a_trial_never_fails_because_of_a_lost_node(studies: Studies, times: int) -> None:
    cluster = FakeCluster({"a": 1}, {"a": [*[LOST] * times, completes]})
    study = studies.open(studies.plan(n_trials=1))
    run(study, cluster)
    assert states(study) == {"COMPLETE": 1}


@pytest.mark.parametrize(("times", "state"), [(1, "COMPLETE"), (2, "COMPLETE"), (3, "FAIL")])
def test_a_trial_fails_when_the_third_worker_is_killed_in_the_same_epoch(
    studies: Studies, times: int, state: str
) -> None:
    cluster = FakeCluster({"a": 1}, {"a": [*[KILLED] * times, completes]})
    study = studies.open(studies.plan(n_trials=1))
    run(study, cluster)
    assert states(study) == {state: 1}


def test_the_run_of_an_interrupted_trial_is_ended_while_it_waits(studies: Studies) -> None:
    study = studies.open(studies.plan(n_trials=1))
    trial_states: list[object] = []

    def reads_the_state_first(request: TrainRequest) -> WorkerEvent:
        trial_states.append((end_tags(request.folder) or {}).get("trial.state"))
        return completes(request)

    run(study, FakeCluster({"a": 1}, {"a": [LOST, reads_the_state_first]}))
    assert trial_states == ["interrupted"]


def test_a_worker_that_cannot_start_counts_as_a_fault_of_its_node_unless_the_node_is_lost(
    studies: Studies,
) -> None:
    gone = WorkerExited(True, "node a is gone", node_lost=True)
    first_events: list[WorkerEvent] = [gone, gone, gone, gone, WorkerReady()]
    cluster = FakeCluster({"a": 1}, {"a": [completes]}, first_events=first_events)
    study = studies.open(studies.plan(n_trials=1))
    run(study, cluster)
    assert states(study) == {"COMPLETE": 1}
    broken = WorkerExited(True, "no worker starts on node a: no module")
    with pytest.raises(SweepInterruptedError, match="no worker starts on node a: no module"):
        run(
            studies.open(studies.plan(n_trials=2)),
            FakeCluster({"a": 1}, {"a": [completes]}, first_events=[broken] * 9),
        )


def test_if_no_worker_can_start_any_more_no_interrupted_trial_fails(studies: Studies) -> None:
    study = studies.open(studies.plan(n_trials=2))
    for _ in range(2):
        pending = study.ask()
        assert pending is not None
        write(study, pending.number, 0.5)
        (study.plan.trial_dir(pending.number) / CHECKPOINT).write_bytes(b"weights")
    study = studies.open(studies.plan(n_trials=2))
    crashed: list[WorkerEvent] = [WorkerExited(False, "the worker ended with exit code 1")]
    with pytest.raises(SweepError, match="no worker can start: the worker ended with exit"):
        run(study, FakeCluster({"": 1}, {"": [completes]}, first_events=crashed))
    assert states(study) == {"RUNNING": 2}
    assert all((study.plan.trial_dir(number) / CHECKPOINT).exists() for number in range(2))


@pytest.mark.parametrize(("node", "where"), [("a", " on node a"), ("", "")])
def test_a_worker_that_does_not_start_in_time_is_stopped(
    studies: Studies, monkeypatch: pytest.MonkeyPatch, node: str, where: str
) -> None:
    monkeypatch.setattr(schedulers, "START_TIMEOUT_SECONDS", -1.0)
    cluster = FakeCluster({node: 1}, {node: [completes]}, first_events=[WorkerReady()] * 9)
    monkeypatch.setattr(cluster, "wait", lambda workers, timeout: [])
    with pytest.raises(SweepInterruptedError, match=f"no worker starts{where} within -1 s"):
        run(studies.open(studies.plan(n_trials=1)), cluster)


def test_a_trial_out_of_memory_closes_a_slot_and_is_trained_in_another(studies: Studies) -> None:
    short = begins_and(OutOfMemory("node a had too little memory", whole_node=True))
    cluster = FakeCluster({"a": 2}, {"a": [short, completes]})
    study = studies.open(studies.plan(n_trials=4))
    output = run(study, cluster)
    assert states(study) == {"COMPLETE": 4}
    assert "1 of 2 workers from now on" in output


def test_ctrl_c_just_before_a_trial_starts_interrupts_it(
    studies: Studies, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(uploader: NoUploader, folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(NoUploader, "watch", interrupt)
    study = studies.open(studies.plan(n_trials=1))
    with pytest.raises(KeyboardInterrupt):
        run(study, FakeCluster({"a": 1}, {"a": [completes]}))
    assert [trial.user_attrs["state"] for trial in study.trials()] == ["interrupted"]


def test_a_trial_with_an_end_in_its_journal_is_not_trained_again(studies: Studies) -> None:
    study = studies.open(studies.plan(n_trials=1))
    pending = study.ask()
    assert pending is not None
    write(study, pending.number, 0.1, 0.2, 0.3)
    with Journal(study.plan.trial_dir(pending.number)) as journal:
        journal.end(TrialStatus.complete)
    again = studies.open(studies.plan(n_trials=1))
    cluster = FakeCluster({"a": 1}, {"a": [completes]})
    run(again, cluster)
    assert cluster.trained == []
    assert [trial.state for trial in again.trials()] == [TrialState.COMPLETE]
