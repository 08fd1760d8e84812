"""How many trials a pool of workers can train at the same time."""

import pytest
from fake_cluster import FakeCluster

from svhn_sweep.sweep.workers.worker_pool import WorkerPool


@pytest.mark.parametrize(("workers", "capacity"), [("auto", 4), ("2", 2), ("9", 4)])
def test_the_capacity_is_the_setting_or_the_slots_whichever_is_less(
    workers: str, capacity: int
) -> None:
    cluster = FakeCluster({"a": 2, "b": 2}, {})
    assert WorkerPool(cluster, workers).capacity() == capacity
