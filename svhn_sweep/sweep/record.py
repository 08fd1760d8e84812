"""A trial's journal as the driver opens it, where no worker does, and the end that it tells."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from svhn_sweep.sweep.study import Assignment, Study
from svhn_sweep.sweep.workers.protocol import TrialEnded
from svhn_sweep.tracking import journal as journals
from svhn_sweep.tracking.journal import Journal


@contextmanager
def record(study: Study, assignment: Assignment) -> Iterator[Journal]:
    """The trial's journal, begun if it was not."""
    with Journal(study.folder(assignment.number)) as journal:
        study.run_info(assignment).start(journal)
        yield journal


def ending(folder: Path) -> TrialEnded | None:
    """How a trial's folder says that it ended; None if it can go on."""
    tags = journals.ending(folder)
    if tags is None or tags["trial.state"] == "interrupted":
        return None
    return TrialEnded(str(tags["trial.state"]), str(tags["trial.reason"]))
