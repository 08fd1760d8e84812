"""Ends a trial's run, and records the error if one ends it early."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from svhn_sweep.errors import DataError, OutOfMemoryError, Terminated
from svhn_sweep.tracking.journal import Journal
from svhn_sweep.trial_status import TrialStatus

CHECKPOINT = "checkpoint.npz"
TRIAL_LOG = "trial.log"
# A full disk, a data file that is away, a damaged checkpoint: they interrupt a trial of a sweep.
MACHINE_FAULTS = (OSError, DataError)
# from CUDA's libraries, which allocate memory beside TensorFlow's
OOM_MESSAGES = (
    "alloc failed",
    "dnn library initialization failed",
    "cublas status not initialized",
    "no algorithm worked",
)


def end_run(journal: Journal, status: TrialStatus, reason: str = "") -> None:
    """Ends the run; removes the checkpoint unless the run can be resumed.

    Args:
        journal: The run's journal.
        status: How the trial ended.
        reason: Why; empty if there is nothing to explain.
    """
    if (journal.folder / TRIAL_LOG).exists():
        journal.log_artifact(TRIAL_LOG)
    journal.end(status, reason)
    if status != TrialStatus.interrupted:
        (journal.folder / CHECKPOINT).unlink(missing_ok=True)


@contextmanager
def record_errors(journal: Journal, *, resumable: bool, shares_device: bool) -> Iterator[None]:
    """Ends the run with the reason if the block raises; the error is raised further.

    Args:
        journal: The run's journal, which has started.
        resumable: Whether the trial can be resumed. Then a full disk and the like interrupt the
            run; otherwise it has failed.
        shares_device: Whether other trials may use the device at the same time. Then too little
            memory interrupts the run: the trial is tried again alone.

    Raises:
        OutOfMemoryError: Replaces the error of any library that means it.
    """
    try:
        yield
    except (KeyboardInterrupt, Terminated) as stop:
        if not journal.ended:  # else the signal came too late
            reason = "Ctrl-C" if isinstance(stop, KeyboardInterrupt) else "SIGTERM"
            end_run(journal, TrialStatus.interrupted, reason)
        raise
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        out_of_memory = _is_out_of_memory(error, shares_device=shares_device)
        machine_fault = resumable and isinstance(error, MACHINE_FAULTS)
        if machine_fault or (shares_device and out_of_memory):
            end_run(journal, TrialStatus.interrupted, reason)
        else:
            (journal.folder / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
            journal.log_artifact("traceback.txt")
            end_run(journal, TrialStatus.failed, reason)
        if out_of_memory:
            advice = "a smaller training.batch_size or fewer filters need less"
            raise OutOfMemoryError(
                f"out of memory ({reason.splitlines()[0]}); {advice}."
            ) from error
        raise


def _is_out_of_memory(error: BaseException, *, shares_device: bool) -> bool:
    """Whether this is Python's error, TensorFlow's, or one of CUDA's libraries.

    An error that may as well come from a broken installation counts only if other trials share the
    device: the trial is tried again alone, and fails then.
    """
    message = str(error).lower().replace("_", " ")
    if isinstance(error, MemoryError) or "out of memory" in message:
        return True
    if type(error).__name__ == "ResourceExhaustedError":  # TensorFlow's, which may not be imported
        return True
    return shares_device and any(text in message for text in OOM_MESSAGES)
