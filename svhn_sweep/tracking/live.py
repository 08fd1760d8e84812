"""Send a run to MLflow while it runs, from a thread: a slow or dead store never holds up training."""

import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from svhn_sweep.tracking import store
from svhn_sweep.tracking.journal import folders, has_ended, is_for

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


class Live:
    """Follows the journal in `folder` until `close`; its failures are a warning, never an error."""

    def __init__(self, folder: Path, earlier: Sequence[Path] = ()) -> None:
        """`earlier`: folders of older runs; what a crash or an outage kept from MLflow is sent too."""
        self._folder, self._earlier = folder, earlier
        self._failures = 0
        self._warned = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mlflow", daemon=True)
        self._thread.start()

    def close(self, patience: float) -> bool:
        """Wait until everything is sent, at most `patience` seconds; returns whether it is."""
        self._closing.set()
        self._thread.join(patience)
        if self._thread.is_alive():
            self._warn("it does not answer")
            return False
        return self._failures == 0

    def _follow(self) -> None:
        closing = False
        while not closing:
            closing = self._closing.wait(min(POLL_SECONDS * (1 + self._failures), LONGEST_PAUSE_SECONDS))
            try:
                from svhn_sweep.tracking import sending  # imports mlflow: 2 s that training need not wait for

                sending.send(self._folder)
                self._failures = 0
            except Exception as error:  # noqa: BLE001  # whatever it is, the journal has the data and training goes on
                self._failures += 1
                logger.warning("not sent to MLflow: %s", store.redacted(repr(error)))
                if self._failures > 1 or closing:
                    self._warn(store.reason(error))
            else:
                self._send_earlier()

    def _send_earlier(self) -> None:
        """Once; stops as soon as this run is over."""
        from svhn_sweep.tracking import sending

        waiting = [folder for root in self._earlier for folder in folders(root) if is_for(folder, store.address())]
        self._earlier = ()
        for folder in waiting:
            if self._closing.is_set():
                return
            try:
                if has_ended(folder):
                    sending.send(folder)
            except Exception as error:  # noqa: BLE001  # an old run must not keep this one from MLflow
                logger.warning("%s not sent to MLflow: %s", folder, store.redacted(repr(error)))

    def _warn(self, reason: str) -> None:
        if self._warned:
            return
        self._warned = True
        print(
            f"svhn_sweep: MLflow at {store.address()} cannot be told about this run: {reason}\n"
            f"Nothing is lost: the run is kept in {self._folder}; it is sent when MLflow answers, at the latest by "
            "`python -m svhn_sweep sync`.",
            file=sys.stderr,
        )
