"""Uploads runs to MLflow from a thread while they run, so that no store holds up training."""

import logging
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from svhn_sweep.errors import Terminated
from svhn_sweep.import_lock import import_lock
from svhn_sweep.tracking import tracking_uri, upload_state
from svhn_sweep.tracking.journal import JOURNAL, finalize_if_dead, find_runs, is_meant_for

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
MAX_POLL_SECONDS = 30.0  # after failures
TIMEOUT_SECONDS = 60.0  # without progress, when the command ends
TIMEOUT_AFTER_STOP_SECONDS = 5.0  # when the user stopped the command


@dataclass
class _Progress:
    """What the thread did with one run.

    Attributes:
        size: The journal's size when it was last looked at, in bytes.
        checked: Whether the store was asked for the run's earlier upload.
        deleted: Whether the user deleted the run in MLflow.
    """

    size: int = 0
    checked: bool = False
    deleted: bool = False


class BackgroundUploader:
    """Uploads runs while its context is open; a failure is a warning, never an error.

    The end of the context waits for the uploads: as long as a store takes that makes progress, and
    `TIMEOUT_AFTER_STOP_SECONDS` if the user stopped the command.

    Attributes:
        sent: Whether MLflow has everything; False until all is uploaded at the end.
    """

    def __init__(self, folders: Iterable[Path], earlier: Iterable[Path] = ()) -> None:
        """Prepares the thread.

        Args:
            folders: The folders of the runs to upload.
            earlier: Folders that hold older runs; what the store lacks of those is uploaded too.
        """
        self.sent = False
        self._folders = list(folders)
        self._earlier = list(earlier)
        self._progress: defaultdict[Path, _Progress] = defaultdict(_Progress)
        self._uploads = 0
        self._warned = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._upload_all, name="mlflow", daemon=True)

    def watch(self, folder: Path) -> None:
        """Uploads the run in this folder too."""
        if folder not in self._folders:
            self._folders.append(folder)

    def __enter__(self) -> "BackgroundUploader":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        if isinstance(error, KeyboardInterrupt | Terminated):
            # An import of MLflow or a new store may take longer than the user waits.
            self._thread.join(TIMEOUT_AFTER_STOP_SECONDS)
            if self._thread.is_alive():
                self._warn("not all of it is in MLflow yet: `python -m svhn_sweep sync` sends it.")
            return
        uploads = -1
        while self._thread.is_alive() and self._uploads != uploads:  # a slow store is not dead
            uploads = self._uploads
            self._thread.join(TIMEOUT_SECONDS)
        if self._thread.is_alive():
            self._warn_not_recorded("it does not answer")

    def _upload_all(self) -> None:
        """Uploads every run in turn until closed, and once more then; this is the thread."""
        error: Exception | None = None
        failures = 0  # consecutive rounds with an error
        earlier = self._earlier
        closing = False
        while not closing:
            closing = self._closing.wait(min(POLL_SECONDS * (1 + failures), MAX_POLL_SECONDS))
            error = self._upload_watched()
            failures = failures + 1 if error else 0
            if error and (failures > 1 or closing):
                self._warn_not_recorded(tracking_uri.reason(error))
            if not error:
                self._upload_earlier(earlier)
                earlier = []
        # A store that took something before is perhaps being restarted.
        self.sent = error is None or (self._uploads > 0 and self._retry())

    def _upload_watched(self) -> Exception | None:
        """Uploads every watched run; returns the first error."""
        errors = [error for folder in list(self._folders) if (error := self._upload(folder))]
        return errors[0] if errors else None

    def _retry(self) -> bool:
        """Uploads again until that succeeds or the store answers; returns whether it succeeded."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        answered = succeeded = False
        while not (succeeded or answered) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            # Asked before the upload: what still fails then is the run's own fault.
            answered = tracking_uri.is_available()
            succeeded = self._upload_watched() is None
        return succeeded

    def _upload(self, folder: Path, *, if_dead: bool = False) -> Exception | None:
        """Uploads what the store lacks of one run; returns the error, if any.

        With `if_dead` nothing is uploaded while a process still writes the run.
        """
        progress = self._progress[folder]
        try:
            if if_dead and not finalize_if_dead(folder):
                return None
            journal = folder / JOURNAL
            size = journal.stat().st_size if journal.exists() else 0
            if size != progress.size and not progress.deleted:
                self._send(folder, size, progress)
                progress.size = size
        # Whatever it is: the journal has the data, and training continues.
        except Exception as error:  # noqa: BLE001
            logger.warning("%s not sent to MLflow: %s", folder, tracking_uri.redact(repr(error)))
            return error
        return None

    def _send(self, folder: Path, size: int, progress: _Progress) -> None:
        with import_lock:
            from svhn_sweep.tracking import uploader  # imports MLflow, which takes 2 s

        state = upload_state.load(folder)
        if progress.checked:
            uploader.send(folder)
        elif state is None or state["position"] < size:
            progress.deleted = uploader.check_and_send(folder) is None
            progress.checked = True
        else:  # an earlier process uploaded it
            return
        self._uploads += 1

    def _upload_earlier(self, roots: Iterable[Path]) -> None:
        """Uploads older runs of the current store whose process is gone, until closed."""
        try:
            folders = [
                folder
                for root in roots
                for folder in find_runs(root)
                if is_meant_for(folder, tracking_uri.address())
            ]
        except OSError as error:  # a folder was removed meanwhile
            logger.warning("earlier runs were not looked for: %s", error)
            return
        for folder in folders:
            if self._closing.is_set():
                return
            if folder not in self._folders:
                self._upload(folder, if_dead=True)

    def _warn_not_recorded(self, reason: str) -> None:
        self._warn(
            f"MLflow at {tracking_uri.address()} cannot record this run: {reason}\n"
            f"The run is kept in {self._folders[0]}; it is sent when MLflow answers, at the latest "
            "by `python -m svhn_sweep sync`."
        )

    def _warn(self, text: str) -> None:
        """Prints a warning unless there was one before."""
        if not self._warned:
            self._warned = True
            print(f"svhn_sweep: {text}", file=sys.stderr)
