"""A trial's journal as a driver opens it, where no worker does, and the end that it tells."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from svhn_sweep.sweep.messages import Ended
from svhn_sweep.sweep.study import Assignment, Study
from svhn_sweep.tracking import journal as journals
from svhn_sweep.tracking import store
from svhn_sweep.tracking.journal import Journal
from svhn_sweep.trial import experiment_name


@contextmanager
def record(study: Study, assignment: Assignment) -> Iterator[Journal]:
    """The trial's journal, begun if it was not."""
    label = study.label(assignment)
    with Journal(study.folder(assignment.number)) as journal:
        journal.start(
            name=label.name,
            experiment=experiment_name(study.plan.config),
            store=store.address(),
            tags=label.tags,
            parent=label.parent,
        )
        yield journal


def ending(folder: Path) -> Ended | None:
    """How a trial's folder says that it ended; None if it can go on."""
    tags = journals.ending(folder)
    if tags is None or tags["trial.state"] == "interrupted":
        return None
    return Ended(str(tags["trial.state"]), str(tags["trial.reason"]))
