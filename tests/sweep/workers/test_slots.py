"""Where trials may begin: where memory is short slots close, where nodes come and go slots do."""

import pytest
from studies import Studies

from svhn_sweep.sweep.workers.protocol import Slot
from svhn_sweep.sweep.workers.slots import WorkerSlots


@pytest.mark.parametrize(
    ("devices", "events", "blamed", "left"),
    [
        # A trial began at each place. `events`: 0 the trial there ran out of memory, +0 another one
        # began there.
        ("0 0", "0", "", "1"),
        ("0 0", "0 1", "", "1"),  # at once: neither is to blame
        ("0 0", "1 +0 0", "0", "0 1"),  # alone as well: it is too big, and others may go on
        ("0 0 0", "0 1", "", "2"),
        ("0 0 0", "0 1 +2 2", "2", "0 1 2"),  # perhaps the first two ran out because of it
        ("0 0", "1 +0 0 +0 +1 1", "0", "0"),  # and beside another one once more
        ("0 0", "1 0", "", "0"),  # it began beside another one: it is tried alone first
        ("0 1", "0", "0", "0 1"),
        ("0 1 0 1", "2 1", "", "0 3"),
        ("0 1 0 1", "2 +0 1 +3 3", "3", "0 1 3"),  # the other device has no more memory than before
    ],
)
def test_where_memory_is_short_slots_close(
    devices: str, events: str, blamed: str, left: str
) -> None:
    found = slots_of("node", devices)
    assert after(found, events, whole_node=False) == (blamed, left)


@pytest.mark.parametrize(
    ("events", "blamed", "left"),
    [
        ("0", "", "1"),  # another device, but the same memory
        ("0 1", "", "1"),
        ("1 +0 0", "0", "0 1"),
    ],
)
def test_a_nodes_memory_is_that_of_all_its_devices(events: str, blamed: str, left: str) -> None:
    assert after(slots_of("node", "0 1"), events, whole_node=True) == (blamed, left)


def slots_of(node: str, devices: str) -> WorkerSlots:
    """With a trial in each."""
    names = devices.split()
    found = WorkerSlots(
        Slot(node, device, names[:place].count(device)) for place, device in enumerate(names)
    )
    for state in found:
        found.begin(state)
    return found


def after(found: WorkerSlots, events: str, *, whole_node: bool) -> tuple[str, str]:
    """Which trials are to blame, and which slots are open after these events."""
    states, blamed = list(found), ""
    for event in events.split():
        if event.startswith("+"):
            found.begin(states[int(event)])
        elif found.out_of_memory(states[int(event)], whole_node=whole_node):
            blamed += event
    return blamed, " ".join(str(states.index(state)) for state in found.open())


ONE, TWO = Slot("one", "cpu", 0), Slot("two", "cpu", 0)


def test_a_node_that_joins_has_slots_and_one_that_leaves_has_none() -> None:
    found = WorkerSlots([ONE])
    assert found.update([ONE, TWO]) == []
    assert [state.slot for state in found.open()] == [ONE, TWO]
    (forgotten,) = found.update([TWO])
    assert forgotten.slot == ONE
    assert [state.slot for state in found] == [TWO]


def test_a_slot_that_is_gone_is_kept_until_its_trial_is_over(studies: Studies) -> None:
    found = WorkerSlots([ONE, TWO])
    state = next(iter(found))
    study = studies.open()
    assignment = study.next()
    assert assignment is not None
    state.trial = study, assignment
    assert found.update([TWO]) == []
    assert [each.slot for each in found.open()] == [TWO]
    state.trial = None
    assert found.update([TWO]) == [state]


def test_a_node_that_comes_back_is_open_again() -> None:
    found = WorkerSlots([ONE])
    found.update([])
    assert found.open() == []
    found.update([ONE])
    assert [state.slot for state in found.open()] == [ONE]
