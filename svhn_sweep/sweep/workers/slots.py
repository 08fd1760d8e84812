"""The slots of a cluster: what runs on each of them, and which ones can take a trial."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from svhn_sweep.sweep.study.study import PendingTrial, Study
from svhn_sweep.sweep.workers.protocol import Slot, Worker


@dataclass
class SlotState:
    """What a slot is used for.

    Attributes:
        slot: The slot.
        device: The device that its worker uses; Ray may assign another GPU than the slot's.
        worker: The worker that runs on it; None if there is none.
        trial: The trial that the worker trains, with its study; None if there is none.
        busy_since: `time.monotonic` when the worker was started or its trial was.
        is_closed: Whether it takes no more trials because memory is too small for another one.
        is_gone: Whether the cluster has it no longer.
        sole_on_device: Whether the trial began while all other slots of the device were closed.
        sole_on_node: Whether the trial began while all other slots of the node were closed.
    """

    slot: Slot
    device: str = ""
    worker: Worker | None = None
    trial: tuple[Study, PendingTrial] | None = None
    busy_since: float = 0.0
    is_closed: bool = False
    is_gone: bool = False
    sole_on_device: bool = False
    sole_on_node: bool = False

    def release(self) -> tuple[Study, PendingTrial]:
        """Removes the trial from the slot and returns it with its study."""
        assert self.trial is not None
        trial = self.trial
        self.trial = None
        return trial


class WorkerSlots:
    """All slots of a cluster, in their order of appearance."""

    def __init__(self, slots: Iterable[Slot] = ()) -> None:
        self._states: dict[Slot, SlotState] = {}
        self.update(slots)

    def __iter__(self) -> Iterator[SlotState]:
        return iter(list(self._states.values()))

    def update(self, slots: Iterable[Slot]) -> list[SlotState]:
        """Adds new slots and removes those that are gone, once they have no trial.

        Args:
            slots: All slots that the cluster has now.

        Returns:
            The slots that were removed.
        """
        present = dict.fromkeys(slots)
        for slot in present:
            self._states.setdefault(slot, SlotState(slot, slot.device))
        for state in self:
            state.is_gone = state.slot not in present
        removed = [state for state in self if state.is_gone and state.trial is None]
        for state in removed:
            del self._states[state.slot]
        return removed

    def open(self) -> list[SlotState]:
        """Returns the slots that can take trials, ordered to spread over nodes and devices."""
        states = [state for state in self if not state.is_closed and not state.is_gone]
        return sorted(states, key=lambda state: state.slot.index)

    def of(self, worker: Worker) -> SlotState:
        """Returns the slot on which a worker runs."""
        return next(state for state in self if state.worker is worker)

    def is_training(self) -> bool:
        """Returns whether any slot has a trial."""
        return any(state.trial is not None for state in self)

    def begin_trial(self, state: SlotState) -> None:
        """Notes which memory a trial shares at its start."""
        state.sole_on_device = not self._is_shared(state, _same_device)
        state.sole_on_node = not self._is_shared(state, _same_node)

    def out_of_memory(self, state: SlotState, *, whole_node: bool) -> bool:
        """Closes the slot of a trial that ran out of memory, if other slots share the memory.

        If the trial began as the only one there, it is too large. Then all slots that share the
        memory open again: their trials may have run out of memory because of it.

        Args:
            state: The slot of the trial.
            whole_node: Whether the memory is the node's; else it is the device's.

        Returns:
            Whether the trial is too large.
        """
        shares_memory = _same_node if whole_node else _same_device
        if state.sole_on_node if whole_node else state.sole_on_device:
            for other in self:
                if shares_memory(state, other):
                    other.is_closed = False
            return True
        if self._is_shared(state, shares_memory):
            state.is_closed = True
        return False

    def _is_shared(
        self, state: SlotState, shares_memory: Callable[[SlotState, SlotState], bool]
    ) -> bool:
        """Whether another slot that shares the memory has a trial or can take one."""
        return any(
            shares_memory(other, state)
            for other in self
            if other is not state and (other.trial is not None or not other.is_closed)
        )


def _same_device(one: SlotState, other: SlotState) -> bool:
    return _same_node(one, other) and one.device == other.device


def _same_node(one: SlotState, other: SlotState) -> bool:
    return one.slot.node == other.slot.node
