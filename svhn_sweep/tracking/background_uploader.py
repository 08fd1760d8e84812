"""Send runs to MLflow while they run, from a thread: a slow or dead store never holds up
training.
"""

import logging
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from svhn_sweep.errors import Terminated
from svhn_sweep.tracking import tracking_uri, upload_state
from svhn_sweep.tracking.journal import JOURNAL, finalize_if_dead, folders, is_for

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
PATIENCE_SECONDS = 60.0
PATIENCE_AFTER_STOP_SECONDS = 5.0  # somebody who stopped the command waits for the end of it


class BackgroundUploader:
    """Follows the journals in some folders until `close`; its failures are a warning, never an
    error.

    As a context manager it closes with the patience that the moment allows.

    Attributes:
        sent: after closing, whether MLflow has everything.
    """

    def __init__(self, own: Iterable[Path], earlier: Iterable[Path] = ()) -> None:
        """`own`: folders to follow; `earlier`: folders of older runs, of which what MLflow lacks
        is sent too.
        """
        self.sent = False
        self._own = list(own)
        self._earlier = list(earlier)
        self._sizes: dict[Path, int] = {}
        self._asked: set[Path] = (
            set()
        )  # whether the store still has the run, before anything new was sent
        self._deleted: set[Path] = set()  # by the user, in MLflow
        self._failures = self._runs_sent = 0
        self._warned = self._finished = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mlflow", daemon=True)
        self._thread.start()

    def watch(self, folder: Path) -> None:
        """From now on that run too."""
        if folder not in self._own:
            self._own.append(folder)

    def close(self, patience: float) -> bool:
        """Wait until everything is sent, at most `patience` seconds; returns whether it is."""
        self._closing.set()
        self._thread.join(patience)
        if self._thread.is_alive():
            self._warn("it does not answer")
        self.sent = self._finished and self._failures == 0
        return self.sent

    def __enter__(self) -> "BackgroundUploader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, KeyboardInterrupt | Terminated):
            self.close(PATIENCE_AFTER_STOP_SECONDS)
            return
        self._closing.set()
        runs_sent = -1
        while self._thread.is_alive() and self._runs_sent != runs_sent:  # slow is not dead
            runs_sent = self._runs_sent
            self._thread.join(PATIENCE_SECONDS)
        self.close(0)

    def _follow(self) -> None:
        closing = False
        while not closing:
            closing = self._closing.wait(
                min(POLL_SECONDS * (1 + self._failures), LONGEST_PAUSE_SECONDS)
            )
            self._send_all(last=closing)
        if self._failures and self._runs_sent:  # it answered before: perhaps it is being restarted
            self._wait_for_store()
        self._finished = True

    def _send_all(self, *, last: bool) -> None:
        errors = [error for folder in list(self._own) if (error := self._send(folder))]
        self._failures = self._failures + 1 if errors else 0
        if errors and (self._failures > 1 or last):
            self._warn(tracking_uri.reason(errors[0]))
        if not errors:
            self._send_earlier()

    def _wait_for_store(self) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        answered = False
        while self._failures and not answered and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
            answered = (
                tracking_uri.answers()
            )  # asked before it is sent anything: what fails then is the run's own fault
            self._send_all(last=True)

    def _send(self, folder: Path, *, earlier: bool = False) -> Exception | None:
        """What the store lacks of one run, an earlier one only if its process is gone; returns
        what went wrong.
        """
        try:
            if earlier and not finalize_if_dead(folder):
                return None
            size = (folder / JOURNAL).stat().st_size if (folder / JOURNAL).exists() else 0
            if size != self._sizes.get(folder, 0) and folder not in self._deleted:
                from svhn_sweep.tracking import (
                    uploader,
                )  # imports mlflow: 2 s that training need not wait for

                known = upload_state.load(folder)
                if folder in self._asked:
                    uploader.send(folder)
                    self._runs_sent += 1
                elif known is None or known["position"] < size:
                    if uploader.resend(folder) is None:
                        self._deleted.add(folder)
                    self._asked.add(folder)
                    self._runs_sent += 1
                self._sizes[folder] = size
        # whatever it is, the journal has the data and training goes on
        except Exception as error:  # noqa: BLE001
            logger.warning("%s not sent to MLflow: %s", folder, tracking_uri.redacted(repr(error)))
            return error
        return None

    def _send_earlier(self) -> None:
        """Once; stops as soon as this run is over."""
        earlier = self._earlier
        self._earlier = []
        try:
            waiting = [
                folder
                for root in earlier
                for folder in folders(root)
                if is_for(folder, tracking_uri.address())
            ]
        except OSError as error:  # folders come and go while it looks
            logger.warning("earlier runs were not looked for: %s", error)
            return
        for folder in waiting:
            if self._closing.is_set():
                return
            if folder not in self._own:
                self._send(folder, earlier=True)

    def _warn(self, reason: str) -> None:
        if self._warned:
            return
        self._warned = True
        print(
            f"svhn_sweep: MLflow at {tracking_uri.address()} "
            f"cannot be told about this run: {reason}\n"
            f"Nothing is lost: the run is kept in {self._own[0]}; it is sent when MLflow "
            "answers, at the latest by "
            "`python -m svhn_sweep sync`.",
            file=sys.stderr,
        )
