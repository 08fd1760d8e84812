"""Keeps a trial's folder on the driver's machine equal to its copy on another node.

The worker trains in the copy. After each epoch, and at the end, the driver writes what has changed
there to the trial's folder. Both journals begin with the same events; what the worker appends to
its own is appended to the driver's.
"""

from dataclasses import dataclass
from pathlib import Path

from svhn_sweep.files import write_atomically
from svhn_sweep.tracking.journal import JOURNAL, Journal
from svhn_sweep.tracking.run_info import RunInfo
from svhn_sweep.trial_end import CHECKPOINT, TRIAL_LOG

CONTINUED_FILES = (CHECKPOINT, TRIAL_LOG)  # of an interrupted trial, beside its journal


@dataclass(frozen=True)
class FolderState:
    """The files that a trial needs to begin or to be resumed.

    Attributes:
        journal: The whole journal.
        files: The contents of those of `CONTINUED_FILES` that there are, by name.
    """

    journal: bytes
    files: dict[str, bytes]


@dataclass(frozen=True)
class FolderChanges:
    """What has changed in a copy since the last time.

    Attributes:
        files: Contents of new and changed files by their paths relative to the folder; without
            the journal.
        journal: The lines that were appended to the journal.
    """

    files: dict[str, bytes]
    journal: bytes


class FolderCopy:
    """The copy on the worker's node.

    Attributes:
        folder: Its path.
    """

    def __init__(self, folder: Path, state: FolderState) -> None:
        """Writes the copy.

        Args:
            folder: An empty folder.
            state: The files of the trial's folder.
        """
        self.folder = folder
        self._journal_size = len(state.journal)
        (folder / JOURNAL).write_bytes(state.journal)
        for name, content in state.files.items():
            (folder / name).write_bytes(content)
        self._versions = self._file_versions()

    def changes(self) -> FolderChanges:
        """Returns what has changed since the last call; nothing may be written meanwhile."""
        versions = self._file_versions()
        files = {
            path: (self.folder / path).read_bytes()
            for path, version in versions.items()
            if self._versions.get(path) != version
        }
        journal = (self.folder / JOURNAL).read_bytes()
        changes = FolderChanges(files, journal[self._journal_size :])
        self._versions = versions
        self._journal_size = len(journal)
        return changes

    def _file_versions(self) -> dict[str, tuple[int, int]]:
        """Modification time (ns) and size of every file but the journal, by relative path."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.name != JOURNAL]
        stats = {path: path.stat() for path in files}
        return {
            str(path.relative_to(self.folder)): (stat.st_mtime_ns, stat.st_size)
            for path, stat in stats.items()
        }


class TrialFolder:
    """The trial's folder on the driver's machine, while a worker trains in a copy.

    It holds the journal's lock, since the worker cannot.
    """

    def __init__(self, folder: Path, run_info: RunInfo) -> None:
        """Opens the journal and writes its start event, or that the run is resumed.

        Raises:
            BlockingIOError: Another process writes the journal.
        """
        self._journal = Journal(folder)
        run_info.start(self._journal)

    def state(self) -> FolderState:
        """Returns the files with which a copy begins."""
        folder = self._journal.folder
        present = [name for name in CONTINUED_FILES if (folder / name).exists()]
        return FolderState(
            (folder / JOURNAL).read_bytes(),
            {name: (folder / name).read_bytes() for name in present},
        )

    def apply(self, changes: FolderChanges) -> None:
        """Writes the changes of a copy: files first, so that those in the journal exist."""
        for path, content in changes.files.items():
            target = self._journal.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, content)
        self._journal.extend(changes.journal)

    def close(self) -> None:
        """Releases the journal's lock."""
        self._journal.close()
