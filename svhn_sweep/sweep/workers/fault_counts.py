"""Counts workers that were killed while they trained a trial, and faults of nodes."""

import math
import time
from collections.abc import Set
from pathlib import Path

MAX_EXITS_WITHOUT_PROGRESS = 3  # workers killed in one epoch before the trial counts as the cause
MAX_FAULTS_WITHOUT_PROGRESS = 3  # faults of a node before it gets no more trials
FAULT_WINDOW_SECONDS = 5.0  # faults this close count once: all workers of a node meet the same


class ExitCounts:
    """Counts for each trial the workers that were killed in its present epoch."""

    def __init__(self) -> None:
        self._counts: dict[Path, tuple[int, int]] = {}

    def add(self, folder: Path, epochs_done: int) -> int:
        """Counts a worker that was killed.

        Args:
            folder: The trial's folder.
            epochs_done: Epochs that the trial has finished.

        Returns:
            The workers killed since the trial finished an epoch, this one included.
        """
        last_epochs_done, count = self._counts.get(folder, (epochs_done, 0))
        count = count + 1 if last_epochs_done == epochs_done else 1
        self._counts[folder] = epochs_done, count
        return count


class NodeFaults:
    """Counts the faults of each node and excludes nodes with too many.

    Attributes:
        excluded: Names of the nodes that get no more trials.
        last_reason: Reason of the last fault that was counted.
    """

    def __init__(self) -> None:
        self.excluded: set[str] = set()
        self.last_reason = ""
        self._counts: dict[str, tuple[int, float]] = {}  # with the time of the last one

    def add(self, node: str, reason: str) -> bool:
        """Counts a fault, unless one of the same node was counted a few seconds ago.

        Returns:
            Whether the fault was counted and the node is excluded.
        """
        now = time.monotonic()
        count, last = self._counts.get(node, (0, -math.inf))
        if now - last < FAULT_WINDOW_SECONDS:
            return False
        self._counts[node] = (count + 1, now)
        self.last_reason = reason
        if count + 1 < MAX_FAULTS_WITHOUT_PROGRESS:
            return False
        self.excluded.add(node)
        return True

    def reset(self, node: str) -> None:
        """Sets the count of a node on which an epoch was trained back to 0."""
        self._counts.pop(node, None)

    def forget_missing(self, present: Set[str]) -> None:
        """Discards the faults of nodes that are not present: they may return repaired."""
        for node in (self._counts.keys() | self.excluded) - present:
            self._counts.pop(node, None)
            self.excluded.discard(node)
