"""`python -m svhn_sweep sync`: bring the present MLflow store up to date with the run folders."""

from pathlib import Path

from svhn_sweep.errors import FailedError, UserError
from svhn_sweep.tracking import tracking_uri, upload_state
from svhn_sweep.tracking.journal import finalize_if_dead, folders
from svhn_sweep.tracking.run_folders import RUN_FOLDERS


def sync(roots: list[Path]) -> None:
    """Send what the store lacks of every run at or below `roots`, and say for each what was done.

    Raises:
        UserError: a root does not exist, or `MLFLOW_TRACKING_URI` is no store.
        FailedError: the store did not take all of it; what was sent is remembered.
    """
    tracking_uri.check()
    missing = [str(root) for root in roots if not root.exists()]
    if missing:
        raise UserError(f"sync takes folders of runs, but there is no {', '.join(missing)}.")
    found = [folder for root in roots or RUN_FOLDERS for folder in folders(root)]
    if not found:
        print(f"no runs in {' or '.join(str(root) for root in roots or RUN_FOLDERS)}")
    failed = 0
    for folder in found:
        try:
            done = _send(folder)
        except Exception as error:  # noqa: BLE001  # the next folder may be fine
            done = f"FAILED: {tracking_uri.reason(error)}"
            failed += 1
        print(f"{folder}: {done}")
    if failed:
        raise FailedError(
            f"MLflow at {tracking_uri.address()} did not take {failed} of {len(found)} runs."
        )


def _send(folder: Path) -> str:
    from svhn_sweep.tracking import uploader  # imports mlflow: 2 s

    if not finalize_if_dead(folder):
        return "still running, sends itself"
    before = upload_state.load(folder)
    after = uploader.resend(folder)
    if after is None:
        return "deleted in MLflow, left alone"
    return "nothing new" if before == after else f"sent to run {after['run_id']}"
