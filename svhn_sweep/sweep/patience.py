"""A storage that waits for its database to come back."""

import abc
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import optuna
from optuna.storages import BaseStorage
from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, OperationalError, PendingRollbackError

from svhn_sweep.tracking import store

RETRY_SECONDS = 1.0
CONNECTION_LOST = (OperationalError, InterfaceError, PendingRollbackError)  # the last: in the middle of several queries

Answer = TypeVar("Answer")


class OutOfReachError(Exception):
    """The database does not answer, and nobody wants to wait for it."""


class PatientStorage(BaseStorage):
    """Optuna's storage in a server that may be restarted, or out of reach for a while.

    Whatever is asked meanwhile waits. An answer that was lost on its way is asked for again, so an operation may have
    been done before: a trial that was created twice has nobody who trains it, and is found as a dead host's is.

    Attributes:
        engine: of the database.
        hurried: nobody wants to wait any longer.
    """

    def __init__(self, storage: optuna.storages.RDBStorage) -> None:
        self.engine: Engine = storage.engine
        self.hurried = False
        self._storage = optuna.storages.get_storage(storage)

    def remove_session(self) -> None:
        self._storage.remove_session()

    def wait(self, ask: Callable[[], Answer]) -> Answer:
        """The answer, as soon as there is one.

        Raises:
            OutOfReachError: there is none, and somebody is in a hurry.
        """
        began: float | None = None
        while True:
            try:
                answer = ask()
            except (optuna.exceptions.StorageInternalError, *CONNECTION_LOST) as error:
                if not out_of_reach(error):
                    raise
                if self.hurried:
                    raise OutOfReachError(store.reason(error.__cause__ or error)) from error
                if began is None:
                    began = time.monotonic()
                    reason = store.reason(error.__cause__ or error)
                    _say(f"does not answer ({reason}): training goes on, and the sweep waits")
                time.sleep(RETRY_SECONDS)
            else:
                if began is not None:
                    _say(f"answers again, after {time.monotonic() - began:.0f} s")
                return answer


def out_of_reach(error: BaseException) -> bool:
    """Whether the database could not be asked, or not finish; Optuna wraps such errors in one of its own."""
    return isinstance(error, CONNECTION_LOST) or isinstance(error.__cause__, CONNECTION_LOST)


def _say(text: str) -> None:
    print(f"svhn_sweep: the studies' database {text}.", file=sys.stderr)


def _patient(name: str) -> Callable[..., object]:
    def method(self: PatientStorage, *arguments: object, **named: object) -> object:
        return self.wait(lambda: getattr(self._storage, name)(*arguments, **named))

    return method


for _name in BaseStorage.__abstractmethods__:
    setattr(PatientStorage, _name, _patient(_name))
abc.update_abstractmethods(PatientStorage)  # type: ignore[type-abstract]
