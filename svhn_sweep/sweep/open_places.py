"""Where trials may still begin, when a device has too little memory for all of its workers."""

from collections.abc import Iterator

from svhn_sweep.sweep.pool import Places


class OpenPlaces:
    """The places whose device has had the memory for all that was trained on it."""

    def __init__(self, places: Places) -> None:
        self.devices = places.devices
        self.closed: set[int] = set()
        self.alone: set[int] = set()  # places whose trial began with the device to itself

    def __iter__(self) -> Iterator[int]:
        return (place for place in range(len(self.devices)) if place not in self.closed)

    def __len__(self) -> int:
        return len(self.devices) - len(self.closed)

    def begin(self, place: int) -> None:
        """A trial begins there."""
        (self.alone.discard if self._beside(place) else self.alone.add)(place)

    def out_of_memory(self, place: int) -> bool:
        """The trial there ran out of memory; returns whether it is to blame, for it had the device to itself.

        If so, all places of the device open again: perhaps the others ran out because of it. Else its own is closed,
        unless all beside it are by now.
        """
        if place in self.alone:
            self.closed = {each for each in self.closed if self.devices[each] != self.devices[place]}
            return True
        if self._beside(place):
            self.closed.add(place)
        return False

    def _beside(self, place: int) -> bool:
        return any(other != place and self.devices[other] == self.devices[place] for other in self)
