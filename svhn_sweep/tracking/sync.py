"""`python -m svhn_sweep sync`: bring the present MLflow store up to date with the run folders."""

from pathlib import Path

from svhn_sweep.errors import UserError
from svhn_sweep.tracking import store
from svhn_sweep.tracking.journal import folders, has_ended

RUN_FOLDERS = (Path("outputs"), Path("multirun"))


def sync(roots: list[Path]) -> None:
    """Send what the store lacks of every run at or below `roots`; runs still going are left to their own process.

    Raises:
        UserError: a root does not exist.
        ConnectionError: the store does not answer; what was sent so far is remembered.
    """
    missing = [str(root) for root in roots if not root.exists()]
    if missing:
        raise UserError(f"sync takes folders of runs, but there is no {', '.join(missing)}.")
    found = [folder for root in roots or RUN_FOLDERS for folder in folders(root)]
    if not found:
        print(f"no runs in {' or '.join(str(root) for root in roots or RUN_FOLDERS)}")
    for folder in found:
        if has_ended(folder):
            print(f"{folder}: {_send(folder)}")
        else:
            print(f"{folder}: still running, sends itself")


def _send(folder: Path) -> str:
    from svhn_sweep.tracking import sending  # imports mlflow: 2 s

    try:
        if not sending.is_known(folder):
            sending.forget(folder)
        before = sending.recall(folder)
        after = sending.send(folder)
    except Exception as error:
        where = store.redacted(store.store_uri())
        reason = store.redacted(str(error)).splitlines()[0]
        raise ConnectionError(f"MLflow at {where} did not take {folder}: {reason}") from error
    return "nothing new" if before == after else f"sent to run {after['run_id']}"
