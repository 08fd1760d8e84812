"""The slots of a cluster as the scheduler sees them: which are free, and which have too little
memory.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from svhn_sweep.sweep.study.study import PendingTrial, Study
from svhn_sweep.sweep.workers.protocol import Slot, Worker


@dataclass
class SlotState:
    """What a slot is used for.

    Attributes:
        slot: it.
        worker: that runs there, if one does.
        trial: that the worker trains.
        device: of the worker; Ray may choose another than the slot's.
        busy_since: of `time.monotonic`, when the worker was started or handed the trial.
        is_closed: no trial begins here any more: the memory is too small for another one.
        is_gone: the cluster does not have it any more.
        had_device, had_node: whether the trial began with the device, the node, to itself.
    """

    slot: Slot
    device: str = ""
    worker: Worker | None = None
    trial: tuple[Study, PendingTrial] | None = None
    busy_since: float = 0.0
    is_closed: bool = False
    is_gone: bool = False
    had_device: bool = False
    had_node: bool = False


class WorkerSlots:
    """All slots that there are, by their order of appearance."""

    def __init__(self, slots: Iterable[Slot] = ()) -> None:
        self._states: dict[Slot, SlotState] = {}
        self.update(slots)

    def __iter__(self) -> Iterator[SlotState]:
        return iter(list(self._states.values()))

    def update(self, slots: Iterable[Slot]) -> list[SlotState]:
        """Add new slots and forget those that are gone, once no trial is there; returns the
        forgotten ones.
        """
        there = dict.fromkeys(slots)
        for slot in there:
            self._states.setdefault(slot, SlotState(slot, slot.device))
        for state in self:
            state.is_gone = state.slot not in there
        forgotten = [state for state in self if state.is_gone and state.trial is None]
        for state in forgotten:
            del self._states[state.slot]
        return forgotten

    def open(self) -> list[SlotState]:
        """Those where trials may begin, in an order that spreads them over nodes and devices."""
        found = [state for state in self if not state.is_closed and not state.is_gone]
        return sorted(found, key=lambda state: state.slot.index)

    def of(self, worker: Worker) -> SlotState:
        """The slot in which a worker runs."""
        return next(state for state in self if state.worker is worker)

    def begin(self, state: SlotState) -> None:
        """A trial begins there."""
        state.had_device = not self._beside(state, _same_device)
        state.had_node = not self._beside(state, _same_node)

    def out_of_memory(self, state: SlotState, *, whole_node: bool) -> bool:
        """The trial there ran out of memory; returns whether it is to blame, for it had the memory
        to itself.

        If so, all slots that share the memory open again: perhaps the others ran out because of it.
        Else its own is closed, unless all beside it are by now.
        """
        shares = _same_node if whole_node else _same_device
        if state.had_node if whole_node else state.had_device:
            for other in self:
                if shares(state, other):
                    other.is_closed = False
            return True
        if self._beside(state, shares):
            state.is_closed = True
        return False

    def _beside(self, state: SlotState, shares: Callable[[SlotState, SlotState], bool]) -> bool:
        others = (
            other
            for other in self
            if other is not state and (other.trial is not None or not other.is_closed)
        )
        return any(shares(other, state) for other in others)


def _same_device(one: SlotState, other: SlotState) -> bool:
    return _same_node(one, other) and one.device == other.device


def _same_node(one: SlotState, other: SlotState) -> bool:
    return one.slot.node == other.slot.node
