"""A local worker process: trains the trials that the driver sends it, one after another.

The driver starts it as `python -m svhn_sweep.sweep.workers.worker_main FD`, where FD is its end of
a socket pair. It ends with the driver.
"""

import faulthandler
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import cast

from svhn_sweep import data
from svhn_sweep.config.schema import Config
from svhn_sweep.data.splits import Splits
from svhn_sweep.errors import Terminated, raise_terminated
from svhn_sweep.sweep.workers.ensemble_task import select_ensemble
from svhn_sweep.sweep.workers.evaluation_requests import (
    EnsembleRequest,
    EvaluateRequest,
    ModelsRequest,
    Result,
    TimeRequest,
)
from svhn_sweep.sweep.workers.protocol import EpochDone, TrainRequest, TrialEnded, WorkerReady
from svhn_sweep.sweep.workers.tasks import evaluate_models, time_models, train_trial
from svhn_sweep.trial_status import TrialStatus

Inbox = queue.SimpleQueue[TrainRequest | ModelsRequest[object] | bool]

TASKS: dict[type, Callable[..., object]] = {  # return the request's result
    EnsembleRequest: select_ensemble,
    EvaluateRequest: evaluate_models,
    TimeRequest: time_models,
}


def main() -> None:
    """Handles requests until the driver is gone or SIGTERM arrives."""
    # Ctrl-C reaches every process of a terminal; the driver alone handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    connection = Connection(int(sys.argv[1]))
    inbox: Inbox = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, inbox), daemon=True).start()
    try:
        # TensorFlow's import takes 5 s. If it fails, that is no trial's fault: none is here yet.
        import svhn_sweep.training.fit  # noqa: F401

        # Only now is there anything to save; within TensorFlow's import the exception could become
        # another one.
        signal.signal(signal.SIGTERM, raise_terminated)
        connection.send(WorkerReady())
        _handle_requests(connection, inbox)
    except Terminated:
        os._exit(128 + signal.SIGTERM)


def _handle_requests(connection: Connection, inbox: Inbox) -> None:
    def should_stop(epoch: int, metrics: dict[str, float]) -> bool:
        """Sends the epoch and blocks until the driver answers."""
        connection.send(EpochDone(epoch, metrics))
        return bool(inbox.get())

    while True:
        request = inbox.get()
        if isinstance(request, TrainRequest):
            connection.send(train_trial(request, request.folder, _load_digits, should_stop))
        elif isinstance(request, ModelsRequest):
            connection.send(answer(request))


def answer(request: ModelsRequest[Result]) -> Result | TrialEnded:
    """Returns the result of a request; every error is returned as a `TrialEnded`."""
    try:
        return cast(Result, TASKS[type(request)](request))
    except Exception as error:  # noqa: BLE001  # the driver prints the reason
        return TrialEnded(TrialStatus.failed, f"{type(error).__name__}: {error}")


def _load_digits(config: Config) -> Splits:
    return data.load(config.data, test=False)


def _receive(connection: Connection, inbox: Inbox) -> None:
    """Queues the driver's messages; ends the process when the driver is gone, at any time."""
    while True:
        try:
            inbox.put(connection.recv())
        except (EOFError, OSError):
            os._exit(1)


if __name__ == "__main__":
    main()
