"""A worker process: trains the trials that its driver hands it, one after another, and dies with its driver.

Started by the driver as `python -m svhn_sweep.sweep.worker FD`, where FD is its end of a pipe.
"""

import faulthandler
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from hydra import compose, initialize_config_dir

from svhn_sweep import data, provenance
from svhn_sweep.config import CONFIG, Config, conf_dir, from_composed, register_schema
from svhn_sweep.data.splits import Splits
from svhn_sweep.errors import OutOfMemoryError, Terminated
from svhn_sweep.provenance import quoted
from svhn_sweep.sweep.messages import Ended, Epoch, Judge, Judged, OutOfMemory, Task
from svhn_sweep.sweep.settings import LOG_FORMAT
from svhn_sweep.trial import run_trial


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the driver decides
    faulthandler.enable()
    connection = Connection(int(sys.argv[1]))
    received: queue.SimpleQueue[Task | Judge | bool] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, received), daemon=True).start()
    try:
        import svhn_sweep.training.fit  # noqa: F401  # TensorFlow takes 5 s: load it while the driver prepares

        # Only now is there something to save; an exception within TensorFlow's import could come out as another one.
        signal.signal(signal.SIGTERM, _raise_terminated)
        digits: dict[str, Splits] = {}
        while True:
            task = received.get()
            if isinstance(task, Judge):
                connection.send(_judge(task))
            elif isinstance(task, Task):  # else a late answer about a trial that is over
                connection.send(_train(task, digits, connection, received))
    except Terminated:
        os._exit(128 + signal.SIGTERM)


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _receive(connection: Connection, received: "queue.SimpleQueue[Task | Judge | bool]") -> None:
    """Pass on what the driver says; when the driver is gone, so is the worker, in the middle of an epoch too."""
    while True:
        try:
            received.put(connection.recv())
        except (EOFError, OSError):
            os._exit(1)


def _train(
    task: Task, digits: dict[str, Splits], connection: Connection, received: "queue.SimpleQueue[Task | Judge | bool]"
) -> Ended | OutOfMemory:
    owed = 0  # answers; a driver whose database is away has none

    def should_stop(epoch: int, metrics: dict[str, float]) -> bool:
        nonlocal owed
        connection.send(Epoch(epoch, metrics))
        owed, patience, stop = owed + 1, 0.0 if owed else task.patience, False
        with suppress(queue.Empty):
            while owed:
                stop = bool(received.get(timeout=patience)) or stop
                owed -= 1
        return stop

    try:
        config = _compose(task)
        if str(config.data) not in digits:
            digits.clear()
            digits[str(config.data)] = data.load(config.data, test=False)
        command = provenance.command(task.overrides, task.config_dirs)
        with _log_in(task.folder):
            outcome = run_trial(config, digits[str(config.data)], task.folder, command, task.label, should_stop)
    except (OutOfMemoryError, MemoryError) as error:
        return OutOfMemory(str(error) or "MemoryError")
    except Exception as error:  # noqa: BLE001  # one trial has failed; the sweep goes on
        return Ended("failed", f"{type(error).__name__}: {error}")
    return Ended(outcome.state, outcome.reason)


def _judge(task: Judge) -> Judged | Ended:
    from svhn_sweep.tracking.model import load_model
    from svhn_sweep.training import figures
    from svhn_sweep.training.evaluation import evaluate, predictor

    accuracies: dict[str, list[float]] = {}
    try:
        splits = data.load(_compose(task).data, test=True)
        assert splits.x_test is not None
        assert splits.y_test is not None
        for arm, runs in task.models.items():
            for run in runs:
                evaluation = evaluate(predictor(load_model(run / "model")), splits.x_test, splits.y_test, "test")
                accuracies.setdefault(arm, []).append(evaluation.accuracy)
                if run == task.shown[arm]:
                    evaluation.write(task.folder / "test" / arm)
                    one = f", the best of {len(runs)} seeds on validation" if len(runs) > 1 else ""
                    title = f"{arm}{one}\non the test split of {splits.path.name}: accuracy {evaluation.accuracy:.2%}"
                    matrix = figures.confusion_heatmap(evaluation, title)
                    matrix.savefig(task.folder / "test" / arm / "confusion_matrix" / "test.png")
    except Exception as error:  # noqa: BLE001  # the driver tells
        return Ended("failed", f"{type(error).__name__}: {error}")
    return Judged(accuracies)


def _compose(task: Task | Judge) -> Config:
    """The config of the task, as the command line would compose it."""
    register_schema()
    search_path = [f"hydra.searchpath=[{','.join(quoted(f'file://{folder}') for folder in task.config_dirs)}]"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return from_composed(compose(CONFIG, [*task.overrides, *(search_path if task.config_dirs else [])]))


@contextmanager
def _log_in(folder: Path) -> Iterator[None]:
    """Python's log goes to the trial's folder; afterwards nowhere but to stderr."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(folder / "trial.log")
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers = []
        handler.close()


if __name__ == "__main__":
    main()
