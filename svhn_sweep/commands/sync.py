"""`python -m svhn_sweep sync`: uploads what the MLflow store lacks of the runs in some folders."""

from pathlib import Path

from svhn_sweep.errors import FailedError, UserError
from svhn_sweep.tracking import tracking_uri, upload_state
from svhn_sweep.tracking.journal import finalize_if_dead, find_runs
from svhn_sweep.tracking.run_folders import RUN_FOLDERS


def sync(roots: list[Path]) -> None:
    """Uploads what the store lacks of every run at or below some folders; prints the result.

    Args:
        roots: The folders; if there are none, `RUN_FOLDERS`.

    Raises:
        UserError: One of them is no folder, or `MLFLOW_TRACKING_URI` is no store.
        FailedError: The store did not take some runs; the next call continues with the rest.
    """
    tracking_uri.check()
    if others := [str(root) for root in roots if not root.is_dir()]:
        raise UserError(f"sync takes folders of runs, but no folder is {', '.join(others)}.")
    folders = [folder for root in roots or RUN_FOLDERS for folder in find_runs(root)]
    if not folders:
        print(f"no runs in {' or '.join(str(root) for root in roots or RUN_FOLDERS)}")
    failed = 0
    for folder in folders:
        try:
            result = _sync_run(folder)
        except Exception as error:  # noqa: BLE001  # the next folder may be fine
            result = f"FAILED: {tracking_uri.reason(error)}"
            failed += 1
        print(f"{folder}: {result}")
    if failed:
        raise FailedError(
            f"MLflow at {tracking_uri.address()} did not take {failed} of {len(folders)} runs."
        )


def _sync_run(folder: Path) -> str:
    """Uploads one run; returns what was done."""
    from svhn_sweep.tracking import uploader  # imports MLflow, which takes 2 s

    if not finalize_if_dead(folder):
        return "still running, sends itself"
    before = upload_state.load(folder)
    after = uploader.check_and_send(folder)
    if after is None:
        return "deleted in MLflow, left alone"
    return "nothing new" if before == after else f"sent to run {after['run_id']}"
