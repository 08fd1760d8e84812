"""Which running trials are this driver's, where several drivers share a study."""

import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from optuna.storages._rdb.models import TrialHeartbeatModel
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from svhn_sweep.sweep.patience import PatientStorage

BEATS = 6  # in the time after which a driver is thought to be dead
RELEASED = timedelta(days=3650)  # how old the heartbeat is of a trial that its driver gave back

_trial, _beat = TrialHeartbeatModel.trial_id, TrialHeartbeatModel.heartbeat


class Claims:
    """Keeps this driver's trials with heartbeats, in Optuna's own table and by the database's clock.

    A trial whose heartbeat is `grace` seconds old is its next driver's: the one that renews that heartbeat first, which
    is a single statement. Nobody may do that who has not been in touch with the database himself for that long: after
    the database was away, every heartbeat is old.

    Attributes:
        owner: this driver's name, different from any other's that ever was.
    """

    def __init__(self, storage: PatientStorage, grace: float) -> None:
        self.storage, self.engine, self.grace = storage, storage.engine, grace
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:4]}"
        self._own: set[int] = set()
        self._since: float | None = None  # of `time.monotonic`, when the database began to answer without a break
        self._last = 0.0  # when it answered last
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name="heartbeats", daemon=True)

    def keep(self, trial_id: int) -> None:
        """From now on this driver's."""
        self._own.add(trial_id)
        self.storage.wait(lambda: self._first_beat(trial_id))

    def let_go(self, trial_id: int) -> None:
        """It is finished, or another driver's."""
        self._own.discard(trial_id)

    def take(self, trial_ids: Sequence[int]) -> int | None:
        """One of these running trials, if its driver is dead or gave it back; it is this driver's then."""
        others = [trial_id for trial_id in trial_ids if trial_id not in self._own]
        return self.storage.wait(lambda: self._take(others)) if others else None

    def others_alive(self, trial_ids: Sequence[int]) -> bool:
        """Whether one of these trials is kept by another driver."""
        fresh = _beat > func.now() - timedelta(seconds=self.grace)
        others = [trial_id for trial_id in trial_ids if trial_id not in self._own]

        def ask() -> bool:
            with self.engine.begin() as connection:
                return connection.execute(select(_trial).where(_trial.in_(others), fresh)).first() is not None

        return self.storage.wait(ask)

    def _take(self, others: Sequence[int]) -> int | None:
        with self.engine.begin() as connection:
            ages = connection.execute(select(_trial, func.now() - _beat).where(_trial.in_(others)))
            beats: dict[int, timedelta] = {row[0]: row[1] for row in ages}
        for trial_id in others:
            if trial_id not in beats:
                self._first_beat(trial_id)  # its driver died before it could, or is about to
            elif beats[trial_id] > self._patience() and self._renew(trial_id):
                self._own.add(trial_id)
                return trial_id
        return None

    def __enter__(self) -> "Claims":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """What is unfinished is anybody's, at once; if the database is out of reach, later."""
        self._closing.set()
        self._thread.join()
        released = update(TrialHeartbeatModel).where(_trial.in_(self._own)).values(heartbeat=func.now() - RELEASED)
        with suppress(SQLAlchemyError), self.engine.begin() as connection:
            connection.execute(released)

    def _patience(self) -> timedelta:
        """How old a heartbeat must be to be a dead driver's."""
        now = time.monotonic()
        in_touch = self._since is not None and now - self._last < self.grace / 2
        long_in_touch = in_touch and self._since is not None and now - self._since > self.grace
        return timedelta(seconds=self.grace) if long_in_touch else RELEASED / 2

    def _renew(self, trial_id: int) -> bool:
        """Whether this driver was the first to renew the trial's old heartbeat."""
        old = _beat < func.now() - self._patience()
        renewed = update(TrialHeartbeatModel).where(_trial == trial_id, old).values(heartbeat=func.now())
        with self.engine.begin() as connection:
            return connection.execute(renewed).rowcount == 1

    def _first_beat(self, trial_id: int) -> None:
        try:
            with self.engine.begin() as connection:
                connection.execute(insert(TrialHeartbeatModel).values(trial_id=trial_id))
        except IntegrityError:  # another driver was faster, or the trial was deleted
            pass

    def _keep_beating(self) -> None:
        pause = 0.0
        while not self._closing.wait(pause):
            own = list(self._own)
            try:
                with self.engine.begin() as connection:
                    renewed = update(TrialHeartbeatModel).where(_trial.in_(own)).values(heartbeat=func.now())
                    connection.execute(renewed)
            except SQLAlchemyError:  # what the driver asks meanwhile waits, and says so
                self._since, pause = None, min(1.0, self.grace / BEATS)
            else:
                now, pause = time.monotonic(), self.grace / BEATS
                if (
                    self._since is None or now - self._last > self.grace / 2
                ):  # it may have stood still, without an error
                    self._since = now
                self._last = now
