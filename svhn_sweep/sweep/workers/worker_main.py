"""A local worker process: trains the trials that the driver hands it, one after another, and dies
with the driver.

Started by the driver as `python -m svhn_sweep.sweep.workers.worker_main FD`, where FD is its end of
a pipe.
"""

import faulthandler
import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection
from types import FrameType

from svhn_sweep import data
from svhn_sweep.config.schema import Config
from svhn_sweep.data.splits import Splits
from svhn_sweep.errors import Terminated
from svhn_sweep.sweep.workers.protocol import EpochDone, EvaluateRequest, TrainRequest
from svhn_sweep.sweep.workers.tasks import evaluate_models, train_trial

Received = queue.SimpleQueue[TrainRequest | EvaluateRequest | bool]


def main() -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches every process of a terminal; the driver decides
    faulthandler.enable()
    connection = Connection(int(sys.argv[1]))
    received: Received = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, received), daemon=True).start()
    digits: dict[str, Splits] = {}

    def load_digits(config: Config) -> Splits:
        """Those of the last trial, if this one's are the same."""
        if str(config.data) not in digits:
            digits.clear()  # first, for the memory
            digits[str(config.data)] = data.load(config.data, test=False)
        return digits[str(config.data)]

    def should_stop(epoch: int, metrics: dict[str, float]) -> bool:
        connection.send(EpochDone(epoch, metrics))
        return bool(received.get())

    try:
        # TensorFlow takes 5 s: load it while the driver prepares
        import svhn_sweep.training.fit  # noqa: F401

        # Only now is there something to save; an exception within TensorFlow's import could come
        # out as another one.
        signal.signal(signal.SIGTERM, _raise_terminated)
        while True:
            request = received.get()
            if isinstance(request, EvaluateRequest):
                connection.send(evaluate_models(request))
            elif isinstance(request, TrainRequest):
                connection.send(train_trial(request, request.folder, load_digits, should_stop))
    except Terminated:
        os._exit(128 + signal.SIGTERM)


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _receive(connection: Connection, received: Received) -> None:
    """Pass on what the driver says; when the driver is gone, so is the worker, in the middle of
    an epoch too.
    """
    while True:
        try:
            received.put(connection.recv())
        except (EOFError, OSError):
            os._exit(1)


if __name__ == "__main__":
    main()
