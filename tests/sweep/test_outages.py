"""A network that fails: the database away for longer than the grace period, a host cut off."""

import time
from collections.abc import Callable

import pytest
from cluster import GRACE, MARKS, Cluster, assert_whole, finish, journals, running, wait_until
from optuna.trial import TrialState

from svhn_sweep.tracking.journal import history

pytestmark = MARKS


def test_a_database_that_is_away_for_longer_than_the_grace_period_costs_time_and_no_trial(
    cluster: Cluster, sweep: Callable[..., tuple[str, ...]]
) -> None:
    command = sweep("outage", "hydra.sweeper.n_trials=3", "hydra.sweeper.workers=1", "training.epochs=12")
    processes = [cluster.host(PRETEND_SECONDS="1").start(*command) for _ in range(2)]
    owners: dict[int, str] = {}

    def both_train() -> bool:
        nonlocal owners
        owners = owners_in_training(cluster, "outage")
        return len(owners) == 2

    wait_until(both_train)
    with cluster.postgres.away():
        epochs = epochs_written(cluster)
        time.sleep(2 * GRACE)
        assert epochs_written(cluster) > epochs + 4  # the answers that they were waiting for; then they train on
    for process in processes:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        assert err.count("database does not answer") == err.count("answers again") == 1
    assert_whole(cluster, "outage", 3, epochs=12)
    kept = {trial.number: trial.user_attrs["owner"] for trial in cluster.study("outage").trials}
    assert owners.items() <= kept.items()  # no living trial was robbed


def owners_in_training(cluster: Cluster, study: str) -> dict[int, str]:
    """By trial, of those that have an epoch behind them."""
    return {trial.number: trial.user_attrs["owner"] for trial in running(cluster, study) if trial.intermediate_values}


def epochs_written(cluster: Cluster) -> int:
    folders = [
        path.parent for host in cluster.hosts for path in host.path.glob("multirun/outage/trial-*/journal.jsonl")
    ]
    return sum(len(history(folder)) for folder in folders)


def test_a_host_that_was_cut_off_and_comes_back_drops_what_another_has_taken_over(
    cluster: Cluster, sweep: Callable[..., tuple[str, ...]]
) -> None:
    if cluster.network is None:
        pytest.skip("needs network namespaces: root and iproute2")
    command = sweep("cut", "hydra.sweeper.n_trials=4", "hydra.sweeper.workers=1")
    lonely, other = cluster.host(PRETEND_SECONDS="8"), cluster.host(PRETEND_SECONDS="0.5")
    process = lonely.start(*command)
    wait_until(lambda: bool(journals(lonely, "cut")))
    (lost,) = running(cluster, "cut")
    cluster.network.cut(lonely.namespace)
    helper = other.start(*command)
    wait_until(lambda: cluster.study("cut").trials[lost.number].state == TrialState.COMPLETE)
    winner = cluster.study("cut").trials[lost.number].user_attrs["owner"]
    assert winner != lost.user_attrs["owner"]
    cluster.network.cut(lonely.namespace, off=False)
    shown = finish(process)
    finish(helper)
    assert f"cut trial {lost.number}  interrupted" in shown
    assert f"{winner} has it now" in shown
    assert_whole(cluster, "cut", 4)
