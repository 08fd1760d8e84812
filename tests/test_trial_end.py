from pathlib import Path

import pytest
import tensorflow as tf

from svhn_sweep.errors import OutOfMemoryError, Terminated
from svhn_sweep.tracking.journal import Journal, end_tags
from svhn_sweep.trial_end import record_errors
from svhn_sweep.trial_status import TrialStatus

TENSORFLOW_OOM = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\nin a layer")


def raise_in_run(
    folder: Path,
    error: BaseException,
    *,
    resumable: bool,
    shares_device: bool = False,
    has_ended: bool = False,
) -> None:
    """Raises an error in a run, before or after its end."""
    with Journal(folder) as journal:
        journal.start(name="a run", experiment="svhn", store="sqlite:///x", tags={})
        with record_errors(journal, resumable=resumable, shares_device=shares_device):
            if has_ended:
                journal.end(TrialStatus.complete)
            raise error


def final_state(folder: Path) -> object:
    return (end_tags(folder) or {})["trial.state"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Terminated])
@pytest.mark.parametrize(("has_ended", "state"), [(False, "interrupted"), (True, "complete")])
def test_a_signal_interrupts_a_run_unless_it_has_ended(
    tmp_path: Path, stop: type[BaseException], has_ended: bool, state: str
) -> None:
    with pytest.raises(stop):
        raise_in_run(tmp_path, stop(), resumable=True, has_ended=has_ended)
    assert final_state(tmp_path) == state


@pytest.mark.parametrize(
    ("error", "in_a_sweep", "alone"),
    [
        (TENSORFLOW_OOM, OutOfMemoryError, OutOfMemoryError),
        (RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: 2 GB"), OutOfMemoryError, OutOfMemoryError),
        (MemoryError(), OutOfMemoryError, OutOfMemoryError),
        # where others share the device a lack of memory, else perhaps a library's wrong version
        (RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), OutOfMemoryError, RuntimeError),
        (RuntimeError("DNN library initialization failed."), OutOfMemoryError, RuntimeError),
        (RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED"), OutOfMemoryError, RuntimeError),
        (RuntimeError("No algorithm worked! Error messages:"), OutOfMemoryError, RuntimeError),
        (RuntimeError("no luck"), RuntimeError, RuntimeError),
    ],
)
def test_too_little_memory_interrupts_a_trial_of_a_sweep_and_fails_a_run_alone_on_its_device(
    tmp_path: Path, error: Exception, in_a_sweep: type[Exception], alone: type[Exception]
) -> None:
    for resumable, shares_device in ((True, True), (True, False), (False, False)):
        folder = tmp_path / f"{resumable} {shares_device}"
        raised = in_a_sweep if shares_device else alone
        with pytest.raises(raised):
            raise_in_run(folder, error, resumable=resumable, shares_device=shares_device)
        interrupted = shares_device and raised is OutOfMemoryError
        assert final_state(folder) == ("interrupted" if interrupted else "failed")
        assert (folder / "traceback.txt").exists() == (not interrupted)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "MemoryError"),
        (TENSORFLOW_OOM, "ResourceExhaustedError: OOM when allocating"),
    ],
)
def test_the_message_of_an_oom_error_is_one_line_with_advice(
    tmp_path: Path, error: Exception, reason: str
) -> None:
    with pytest.raises(OutOfMemoryError) as caught:
        raise_in_run(tmp_path, error, resumable=False)
    advice = "a smaller training.batch_size or fewer filters need less"
    assert str(caught.value) == f"out of memory ({reason}); {advice}."
