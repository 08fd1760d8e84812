"""How exits of workers and faults of nodes are counted, and when a node is excluded."""

import time
from pathlib import Path

import pytest

from svhn_sweep.sweep.workers.fault_counts import FAULT_WINDOW_SECONDS, ExitCounts, NodeFaults


def test_exits_are_counted_per_trial_and_epoch() -> None:
    counts = ExitCounts()
    first = Path("trial-0000")
    second = Path("trial-0001")
    assert [counts.add(first, epochs_done) for epochs_done in (0, 0, 1, 1, 1)] == [1, 2, 1, 2, 3]
    assert counts.add(second, 1) == 1


@pytest.mark.parametrize(
    ("seconds_between", "excluded"),
    [(FAULT_WINDOW_SECONDS + 1, [False, False, True, True]), (1.0, [False] * 4)],
)
def test_the_third_fault_excludes_a_node_and_faults_close_to_another_count_once(
    monkeypatch: pytest.MonkeyPatch, seconds_between: float, excluded: list[bool]
) -> None:
    times = iter(100 + seconds_between * fault for fault in range(4))
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    faults = NodeFaults()
    assert [faults.add("node", "no space left") for _ in range(4)] == excluded
    assert faults.excluded == ({"node"} if any(excluded) else set())


@pytest.mark.parametrize("trained_meanwhile", [False, True])
def test_an_epoch_resets_the_count_and_a_node_that_left_is_not_excluded_any_more(
    monkeypatch: pytest.MonkeyPatch, trained_meanwhile: bool
) -> None:
    monkeypatch.setattr("svhn_sweep.sweep.workers.fault_counts.FAULT_WINDOW_SECONDS", 0.0)
    faults = NodeFaults()
    assert [faults.add("node", "no space left") for _ in range(2)] == [False, False]
    faults.reset("node")
    assert [faults.add("node", "no space left") for _ in range(3)] == [False, False, True]
    if trained_meanwhile:  # a trial of another of its workers
        faults.reset("node")
    faults.forget_missing({"other"})
    assert faults.excluded == set()
