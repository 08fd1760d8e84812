"""A trial's journal, opened by the driver while no worker has it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from svhn_sweep.sweep.study.study import PendingTrial, Study
from svhn_sweep.sweep.workers.protocol import TrialEnded
from svhn_sweep.tracking import journal as journals
from svhn_sweep.tracking.journal import Journal
from svhn_sweep.trial_status import TrialStatus


@contextmanager
def open_trial_journal(study: Study, pending: PendingTrial) -> Iterator[Journal]:
    """The trial's journal; its start event is written if it has none."""
    with Journal(study.folder(pending.number)) as journal:
        study.run_info(pending).start(journal)
        yield journal


def recorded_end(folder: Path) -> TrialEnded | None:
    """How the trial in this folder ended according to its journal; None if it can go on."""
    tags = journals.end_tags(folder)
    if tags is None:
        return None
    status = TrialStatus(str(tags["trial.state"]))
    if status == TrialStatus.interrupted:
        return None
    return TrialEnded(status, str(tags["trial.reason"]))
