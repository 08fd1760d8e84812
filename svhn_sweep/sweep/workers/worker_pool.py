"""The workers of a sweep: starts and stops them on the slots of a cluster."""

import math
import time
from collections.abc import Iterator

from svhn_sweep.errors import SweepInterruptedError
from svhn_sweep.sweep.workers.fault_counts import NodeFaults
from svhn_sweep.sweep.workers.protocol import STOP_TIMEOUT_SECONDS, Cluster, WorkerEvent
from svhn_sweep.sweep.workers.slots import SlotState, WorkerSlots
from svhn_sweep.sweep.workers.sweep_callbacks import SweepCallbacks


class WorkerPool:
    """Starts workers on the slots of a cluster and avoids nodes with too many faults.

    Attributes:
        slots: The cluster's slots with their workers and trials.
        max_workers: The most workers that run at the same time; infinite for `auto`.
    """

    def __init__(self, cluster: Cluster, workers: str) -> None:
        """Takes the cluster's present slots; no worker starts yet.

        Args:
            cluster: Where workers run.
            workers: The setting `hydra.sweeper.workers`: `auto` or a number.
        """
        self.cluster = cluster
        self.slots = WorkerSlots(cluster.slots())
        self.max_workers = math.inf if workers == "auto" else int(workers)
        self._node_faults = NodeFaults()
        self._reported_capacity = self.capacity()

    def update_slots(self, callbacks: SweepCallbacks) -> None:
        """Takes account of nodes that joined or left the cluster.

        Raises:
            SweepInterruptedError: The cluster is gone, or all its nodes have too many faults.
        """
        slots = self.cluster.slots()
        self._node_faults.forget_missing({slot.node for slot in slots})
        excluded = self._node_faults.excluded
        for state in self.slots.update(slot for slot in slots if slot.node not in excluded):
            if state.worker is not None:
                self.stop_worker(state)
        for notice in self.cluster.notices():
            callbacks.on_message(notice)
        self.report_capacity(callbacks)
        if excluded and not self.slots.open() and not self.slots.is_training():
            reason = self._node_faults.last_reason.rstrip(".")
            raise SweepInterruptedError(
                f"no worker can go on: {reason}; the same command continues."
            )

    def ensure_worker(self, state: SlotState, threads: int, n_left: int) -> bool:
        """Returns whether an open slot has a ready worker; starts one if it is needed.

        Args:
            state: A slot without a trial.
            threads: Threads of the trial that the worker is for.
            n_left: Trials that are not started yet.
        """
        if state.worker is not None and not state.worker.can_train(threads):
            self.stop_worker(state)
        if state.worker is None:
            n_workers = sum(other.worker is not None for other in self.slots)
            n_idle = n_workers - sum(other.trial is not None for other in self.slots)
            if n_workers >= self.max_workers or n_idle >= n_left:
                return False
            state.worker = self.cluster.start(state.slot)
            state.busy_since = time.monotonic()
        return state.worker.is_ready

    def events(self, timeout: float) -> Iterator[tuple[SlotState, WorkerEvent]]:
        """Yields the workers' events with their slots, after `timeout` seconds at the latest."""
        workers = [state.worker for state in self.slots if state.worker is not None]
        for worker in self.cluster.wait(workers, timeout):
            yield self.slots.of(worker), worker.next_event()

    def count_node_fault(self, node: str, reason: str, callbacks: SweepCallbacks) -> None:
        """Counts a fault of a node; after too many in a row it gets no more trials."""
        is_excluded = self._node_faults.add(node, reason)
        if is_excluded and node:
            callbacks.on_message(f"node {node} gets no more trials: {reason}")

    def reset_node_faults(self, node: str) -> None:
        """Sets the count of faults of a node back to 0: an epoch was trained on it."""
        self._node_faults.reset(node)

    def report_capacity(self, callbacks: SweepCallbacks) -> None:
        """Reports how many trials can be trained at the same time, if the number has changed."""
        count = self.capacity()
        if count == self._reported_capacity:
            return
        self._reported_capacity = count
        callbacks.on_workers_change(count)
        total = int(min(self.max_workers, sum(not state.is_gone for state in self.slots)))
        text = f"{count} of {total} workers from now on"
        callbacks.on_message(text if count else "no worker is left; waiting for one")

    def stop_worker(self, state: SlotState, timeout: float = STOP_TIMEOUT_SECONDS) -> None:
        """Stops the worker of a slot and waits for its end; its trial stays in the slot."""
        worker = state.worker
        state.worker = None
        assert worker is not None
        worker.terminate()
        worker.close(timeout)

    def stop(self) -> None:
        """Stops all workers at the same time; their trials stay in the slots."""
        workers = [state.worker for state in self.slots if state.worker is not None]
        for worker in workers:
            worker.terminate()
        end = time.monotonic() + STOP_TIMEOUT_SECONDS
        for worker in workers:
            worker.close(end - time.monotonic())
        for state in self.slots:
            state.worker = None

    def has_workers(self) -> bool:
        """Returns whether a worker was started and not stopped since."""
        return any(state.worker is not None for state in self.slots)

    def capacity(self) -> int:
        """Returns how many trials can be trained at the same time."""
        return int(min(self.max_workers, len(self.slots.open())))
