"""Tests which models are timed after a search, and what is recorded of it."""

import pytest
from fake_cluster import FakeCluster
from studies import Studies, train

from svhn_sweep import machine
from svhn_sweep.sweep.report.front_times import time_front
from svhn_sweep.sweep.report.leaderboard import make_rows, to_cells
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.tracking.journal import history

PASSES = {number: [0.5 + number, 0.25 + number, 0.75 + number] for number in range(4)}


def cluster(seconds: dict[int, list[float]] | None = PASSES) -> FakeCluster:
    return FakeCluster({"": 1}, {}, seconds=seconds)


def searched(studies: Studies, *values: float) -> Study:
    """A study whose models are all equally large, so that the front is the best one."""
    study = studies.open()
    for value in values:
        train(study, value)
    return study


def timed(study: Study) -> dict[int, float]:
    rows = make_rows(study.optuna_study)
    return {
        row.number: row.seconds_per_1000_images
        for row in rows
        if row.seconds_per_1000_images is not None
    }


def test_the_front_and_the_baseline_are_timed_once(studies: Studies) -> None:
    study = searched(studies, 0.8, 0.9, 0.7)
    assert "1,000 images" not in to_cells(make_rows(study.optuna_study), "val/accuracy")[0]
    machines = cluster()
    for _ in range(2):
        time_front(study, machines, ())
    (request,) = machines.timed
    assert sorted(request) == [0, 1]
    assert f"model.dense_units={study.trials()[1].params['model.dense_units']}" in request[1]
    assert timed(study) == {1: 1.5, 0: 0.5}
    titles, best, *_ = to_cells(make_rows(study.optuna_study), "val/accuracy")
    assert best[titles.index("1,000 images")] == "1.5 s"
    logged = history(study.plan.trial_dir(1))[0]
    assert logged["seconds_per_1000_images"] == 1.5
    assert logged["seconds_per_1000_images_spread"] == 0.5
    assert "seconds_per_1000_images" not in history(study.plan.trial_dir(2))[0]


def test_a_new_best_trial_is_timed_later(studies: Studies) -> None:
    study = searched(studies, 0.8, 0.9)
    time_front(study, cluster(), ())
    train(study, 0.95)
    machines = cluster()
    time_front(study, machines, ())
    assert [sorted(request) for request in machines.timed] == [[2]]
    assert timed(study) == {2: 2.5, 1: 1.5, 0: 0.5}


def test_nothing_is_timed_on_another_processor_than_the_first_ones(
    studies: Studies, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = searched(studies, 0.8)
    time_front(study, cluster(), ())
    train(study, 0.95)
    monkeypatch.setattr(machine, "processor", lambda: "another one")
    machines = cluster()
    time_front(study, machines, ())
    assert not machines.timed
    assert timed(study) == {0: 0.5}


def test_without_a_complete_trial_nothing_is_timed(studies: Studies) -> None:
    study = studies.open()
    train(study, 0.9, state="pruned")
    machines = cluster()
    time_front(study, machines, ())
    assert not machines.timed


def test_a_failure_is_printed_and_the_next_start_tries_again(
    studies: Studies, capsys: pytest.CaptureFixture[str]
) -> None:
    study = searched(studies, 0.8)
    time_front(study, cluster(None), ())
    assert "study: the models could not be timed: no luck." in capsys.readouterr().out
    assert timed(study) == {}
    time_front(study, cluster(), ())
    assert timed(study) == {0: 0.5}
