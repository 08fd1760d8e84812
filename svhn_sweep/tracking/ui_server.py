"""Runs MLflow's UI on the current store: `python -m svhn_sweep.tracking.ui_server`.

SIGTERM ends it, and the end of its standard input: whoever starts it holds the other end, which
closes even if that process is killed. Its settings are MLflow's own environment variables.
"""

import os
import signal
import sys
from threading import Thread

from svhn_sweep.tracking import tracking_uri


def main() -> None:
    """Opens the store, which is created if it does not exist, and turns into `mlflow ui`.

    The process ends with exit code 1 and one sentence if the store cannot be opened.
    """
    Thread(target=_end_with_input, daemon=True).start()
    try:
        tracking_uri.connect()
    except Exception as error:  # noqa: BLE001  # from MLflow or a database driver
        reason = tracking_uri.reason(error)
        sys.exit(f"svhn_sweep: MLflow cannot open {tracking_uri.address()}: {reason}")
    from mlflow.cli import cli  # the entry point of the command `mlflow`

    cli(["ui"], prog_name="mlflow")


def _end_with_input() -> None:
    """Ends this process, and its group if it is its own, when the input ends."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
