"""Send a run to MLflow while it runs, from a thread: a slow or dead store never holds up training."""

import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from svhn_sweep.tracking import store
from svhn_sweep.tracking.journal import folders, has_ended, read

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0


class Live:
    """Follows the journal in `folder` until `close`; its failures are a warning, never an error.

    Attributes:
        error: why the store is behind the journal at the moment, or None.
    """

    def __init__(self, folder: Path, earlier: Sequence[Path] = ()) -> None:
        """`earlier`: folders of older runs; what a crash or an outage kept from MLflow is sent first."""
        self.folder, self.earlier = folder, earlier
        self.error: Exception | None = None
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
        elif self.error is not None:
            self._warn(str(self.error))
        return self.error is None and not self._thread.is_alive()

    def _follow(self) -> None:
        last = False
        while not last:
            last = self._closing.wait(POLL_SECONDS * min(self._failures + 1, 30))
            try:
                self._send_all()
                self.error, self._failures = None, 0
            except Exception as error:  # noqa: BLE001  # whatever it is, the journal has the data and training goes on
                self.error = error
                self._failures += 1
                logger.warning("not sent to MLflow: %s", store.redacted(repr(error)))
                if self._failures == 2:
                    self._warn(str(error))

    def _send_all(self) -> None:
        from svhn_sweep.tracking import sending  # imports mlflow: 2 s that training need not wait for

        here = store.redacted(store.store_uri())
        for folder in (folder for root in self.earlier for folder in folders(root)):
            start, _ = next(read(folder))
            if start["store"] == here and has_ended(folder):
                sending.send(folder)
        self.earlier = ()
        sending.send(self.folder)

    def _warn(self, reason: str) -> None:
        if self._warned:
            return
        self._warned = True
        print(
            f"svhn_sweep: MLflow at {store.redacted(store.store_uri())} cannot be told about this run: "
            f"{store.redacted(reason).splitlines()[0]}\n"
            f"Nothing is lost: the run is kept in {self.folder}, and `python -m svhn_sweep sync` sends it later.",
            file=sys.stderr,
        )
