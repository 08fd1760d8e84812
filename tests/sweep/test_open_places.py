"""Where trials may begin when a device has too little memory for all of its workers."""

import pytest

from svhn_sweep.sweep.open_places import OpenPlaces
from svhn_sweep.sweep.pool import Places


@pytest.mark.parametrize(
    ("devices", "events", "blamed", "left"),
    [
        # A trial began at each place. `events`: 0 the trial there ran out of memory, +0 another one began there.
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
def test_where_memory_is_short_places_close(devices: str, events: str, blamed: str, left: str) -> None:
    found = OpenPlaces(Places(tuple(devices.split()), 1))
    for place in list(found):
        found.begin(place)
    to_blame = ""
    for event in events.split():
        if event.startswith("+"):
            found.begin(int(event))
        elif found.out_of_memory(int(event)):
            to_blame += event
    assert (to_blame, " ".join(map(str, found))) == (blamed, left)
    assert len(found) == len(left.split())
