"""A disk that is full for the driver interrupts the sweep; the same command continues it."""

from pathlib import Path

import pytest
from folder import Folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning"
    ),  # SQLite connections of MLflow and Optuna
]

# The driver can write no journal any more after its first trial has ended.
FULL = """
if "svhn_sweep" in sys.orig_argv:
    import errno
    from svhn_sweep.tracking.journal import Journal
    append = Journal._append
    full = []
    def append_unless_full(journal, event):
        if full or (event["kind"] == "metrics" and event["step"] == 1):
            full.append(True)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(journal, event)
    Journal._append = append_unless_full
"""


def test_a_full_disk_of_the_driver_interrupts_the_sweep(folder: Folder, small_h5: Path) -> None:
    command = (
        *("-m", "optuna", "model=model1", "data=svhn", f"data.path={small_h5}"),
        *("training.epochs=3", "n_trials=3", "hydra.sweeper.confirm=null"),
    )
    full = folder.python_begins_with(FULL, pretend=True)
    result = folder.run(*command, **full)
    assert result.returncode == 1
    assert result.stderr == (
        "svhn_sweep: the disk cannot be written any more: [Errno 28] No space left on device; "
        "every finished epoch is kept, and the same command continues.\n"
    )
    assert "Nothing is lost. The same command continues:" in result.stdout
    site = folder.path / "site" / "sitecustomize.py"
    site.write_text(site.read_text().replace(FULL, ""))
    again = folder.run(*command, **full)
    assert again.returncode == 0, again.stderr
    assert {run.data.tags["trial.state"] for run in folder.runs()} <= {"complete", "pruned"}
