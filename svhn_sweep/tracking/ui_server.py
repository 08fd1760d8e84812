"""Runs MLflow's UI on the current store: `python -m svhn_sweep.tracking.ui_server`.

SIGTERM ends it. Its settings are MLflow's own environment variables.
"""

import sys

from svhn_sweep.tracking import tracking_uri


def main() -> None:
    """Opens the store, which is created if it does not exist, and turns into `mlflow ui`.

    The process ends with exit code 1 and one sentence if the store cannot be opened.
    """
    try:
        tracking_uri.connect()
    except Exception as error:  # noqa: BLE001  # from MLflow or a database driver
        reason = tracking_uri.reason(error)
        sys.exit(f"svhn_sweep: MLflow cannot open {tracking_uri.address()}: {reason}")
    from mlflow.cli import cli  # the entry point of the command `mlflow`

    cli(["ui"], prog_name="mlflow")


if __name__ == "__main__":
    main()
