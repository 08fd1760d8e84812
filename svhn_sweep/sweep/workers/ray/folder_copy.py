"""A trial's folder on another node, and what of it goes to and fro.

The trial's own folder is on the driver's machine. A worker elsewhere trains in a copy. After each
epoch, and at the end, the driver writes what has changed there to the trial's own folder. Of the
journal, both begin with the same events, and what the worker appends to the copy is appended here.
"""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from svhn_sweep.files import write_whole
from svhn_sweep.tracking.journal import JOURNAL, Journal
from svhn_sweep.trial import CHECKPOINT, RunInfo


@dataclass(frozen=True)
class FolderState:
    """What a trial needs to begin, or to go on.

    Attributes:
        journal: all lines.
        checkpoint: of its last epoch; None if there is none.
    """

    journal: bytes
    checkpoint: bytes | None


@dataclass(frozen=True)
class FolderChanges:
    """What is new since the last time.

    Attributes:
        files: contents by path, relative to the folder.
        journal: the lines that were appended.
    """

    files: dict[str, bytes]
    journal: bytes


class FolderCopy:
    """The copy, as the worker's node has it."""

    def __init__(self, folder: Path, state: FolderState) -> None:
        """Make it. `folder`: an empty one."""
        self.folder = folder
        self._journal_size = len(state.journal)
        (folder / JOURNAL).write_bytes(state.journal)
        if state.checkpoint is not None:
            (folder / CHECKPOINT).write_bytes(state.checkpoint)
        self._versions = self._present()

    def changes(self) -> FolderChanges:
        """What is new since the last call; nothing may be written meanwhile."""
        present = self._present()
        changed = [path for path, version in present.items() if self._versions.get(path) != version]
        files = {path: (self.folder / path).read_bytes() for path in changed}
        journal = (self.folder / JOURNAL).read_bytes()
        changes = FolderChanges(files, journal[self._journal_size :])
        self._versions = present
        self._journal_size = len(journal)
        return changes

    def _present(self) -> dict[str, tuple[int, int]]:
        """Every file but the journal, with what tells its versions apart."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.name != JOURNAL]
        versions = {path: path.stat() for path in files}
        return {
            str(path.relative_to(self.folder)): (s.st_mtime_ns, s.st_size)
            for path, s in versions.items()
        }


class TrialFolder:
    """The trial's own folder, while a worker trains in a copy: the driver holds the journal's
    lock for it.
    """

    def __init__(self, folder: Path, run_info: RunInfo) -> None:
        """Begin the run, or go on with it.

        Raises:
            BlockingIOError: another process writes the journal.
        """
        self._journal = Journal(folder)
        run_info.start(self._journal)

    def state(self) -> FolderState:
        """What the copy begins with."""
        folder = self._journal.folder
        checkpoint = folder / CHECKPOINT
        return FolderState(
            (folder / JOURNAL).read_bytes(),
            checkpoint.read_bytes() if checkpoint.exists() else None,
        )

    def apply(self, changes: FolderChanges) -> None:
        """Write what is new: files first, so that the journal names none that is not there."""
        for path, content in changes.files.items():
            target = self._journal.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            write_whole(target, content)
        self._journal.extend(changes.journal)

    def __enter__(self) -> "TrialFolder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the lock."""
        self._journal.__exit__()
