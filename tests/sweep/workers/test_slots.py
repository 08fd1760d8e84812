"""Which slots are open: too little memory closes slots, nodes that join or leave change them."""

import pytest
from studies import Studies

from svhn_sweep.sweep.workers.protocol import Slot
from svhn_sweep.sweep.workers.slots import WorkerSlots


@pytest.mark.parametrize(
    ("devices", "events", "too_large", "still_open"),
    [
        # A trial began in each slot. Events: `0` the trial in slot 0 runs out of memory, `+0`
        # another trial begins in slot 0.
        ("0 0", "0", "", "1"),
        ("0 0", "0 1", "", "1"),  # at the same time: neither is too large
        ("0 0", "1 +0 0", "0", "0 1"),  # as the only one, too: it is too large, others may go on
        ("0 0 0", "0 1", "", "2"),
        ("0 0 0", "0 1 +2 2", "2", "0 1 2"),  # perhaps the first two ran out because of it
        ("0 0", "1 +0 0 +0 +1 1", "0", "0"),  # and beside another one once more
        ("0 0", "1 0", "", "0"),  # it began beside another one: it is tried as the only one first
        ("0 1", "0", "0", "0 1"),
        ("0 1 0 1", "2 1", "", "0 3"),
        ("0 1 0 1", "2 +0 1 +3 3", "3", "0 1 3"),  # the other device has no more memory than before
    ],
)
def test_a_slot_closes_when_its_device_runs_out_of_memory_unless_the_trial_is_too_large(
    devices: str, events: str, too_large: str, still_open: str
) -> None:
    slots = slots_with_trials("node", devices)
    assert after(slots, events, whole_node=False) == (too_large, still_open)


@pytest.mark.parametrize(
    ("events", "too_large", "still_open"),
    [
        ("0", "", "1"),  # another device, but the same memory
        ("0 1", "", "1"),
        ("1 +0 0", "0", "0 1"),
    ],
)
def test_all_devices_of_a_node_share_the_nodes_memory(
    events: str, too_large: str, still_open: str
) -> None:
    slots = slots_with_trials("node", "0 1")
    assert after(slots, events, whole_node=True) == (too_large, still_open)


def slots_with_trials(node: str, devices: str) -> WorkerSlots:
    """Slots on these devices; a trial began in each."""
    names = devices.split()
    slots = WorkerSlots(
        Slot(node, device, names[:position].count(device)) for position, device in enumerate(names)
    )
    for state in slots:
        slots.begin_trial(state)
    return slots


def after(slots: WorkerSlots, events: str, *, whole_node: bool) -> tuple[str, str]:
    """The trials that are too large, and the slots that are open, after these events."""
    states = list(slots)
    too_large = ""
    for event in events.split():
        if event.startswith("+"):
            slots.begin_trial(states[int(event)])
        elif slots.out_of_memory(states[int(event)], whole_node=whole_node):
            too_large += event
    return too_large, " ".join(str(states.index(state)) for state in slots.open())


ONE = Slot("one", "cpu", 0)
TWO = Slot("two", "cpu", 0)


def test_a_node_that_joins_has_open_slots_and_one_that_leaves_has_none() -> None:
    slots = WorkerSlots([ONE])
    assert slots.update([ONE, TWO]) == []
    assert [state.slot for state in slots.open()] == [ONE, TWO]
    (removed,) = slots.update([TWO])
    assert removed.slot == ONE
    assert [state.slot for state in slots] == [TWO]


def test_a_slot_that_is_gone_stays_until_its_trial_is_over(studies: Studies) -> None:
    slots = WorkerSlots([ONE, TWO])
    state = next(iter(slots))
    study = studies.open()
    pending = study.ask()
    assert pending is not None
    state.trial = study, pending
    assert slots.update([TWO]) == []
    assert [other.slot for other in slots.open()] == [TWO]
    assert state.release() == (study, pending)
    assert slots.update([TWO]) == [state]


def test_a_node_that_returns_has_open_slots_again() -> None:
    slots = WorkerSlots([ONE])
    slots.update([])
    assert slots.open() == []
    slots.update([ONE])
    assert [state.slot for state in slots.open()] == [ONE]
