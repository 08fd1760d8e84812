from pathlib import Path

import pytest
import tensorflow as tf

from svhn_sweep.errors import OutOfMemoryError, Terminated
from svhn_sweep.tracking.journal import Journal, end_tags
from svhn_sweep.trial import _recorded
from svhn_sweep.trial_status import TrialStatus


def train(journal: Journal, stop: type[BaseException], *, over: bool) -> None:
    """A trial that a signal reaches before or after its end."""
    with _recorded(journal, goes_on=True):
        if over:
            journal.end(TrialStatus.complete)
        raise stop


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Terminated])
@pytest.mark.parametrize(("over", "state"), [(False, "interrupted"), (True, "complete")])
def test_an_end_that_is_written_stands(
    tmp_path: Path, stop: type[BaseException], over: bool, state: str
) -> None:
    with Journal(tmp_path) as journal:
        journal.start(name="a run", experiment="svhn", store="sqlite:///x", tags={})
        with pytest.raises(stop):
            train(journal, stop, over=over)
    assert (end_tags(tmp_path) or {})["trial.state"] == state


EXHAUSTED = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\nin a layer")


@pytest.mark.parametrize(
    ("error", "in_a_sweep", "alone"),
    [
        (EXHAUSTED, OutOfMemoryError, OutOfMemoryError),
        (RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: 2 GB"), OutOfMemoryError, OutOfMemoryError),
        (MemoryError(), OutOfMemoryError, OutOfMemoryError),
        # beside others for want of memory, alone perhaps a wrong version of a library
        (RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), OutOfMemoryError, RuntimeError),
        (RuntimeError("DNN library initialization failed."), OutOfMemoryError, RuntimeError),
        (RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED"), OutOfMemoryError, RuntimeError),
        (RuntimeError("No algorithm worked! Error messages:"), OutOfMemoryError, RuntimeError),
        (RuntimeError("no luck"), RuntimeError, RuntimeError),
    ],
)
def test_for_want_of_memory_a_sweeps_trial_is_only_interrupted(
    tmp_path: Path, error: Exception, in_a_sweep: type[Exception], alone: type[Exception]
) -> None:
    for goes_on, raised in ((True, in_a_sweep), (False, alone)):
        folder = tmp_path / str(goes_on)
        with Journal(folder) as journal:
            journal.start(name="a run", experiment="svhn", store="sqlite:///x", tags={})
            with pytest.raises(raised), _recorded(journal, goes_on=goes_on):
                raise error
        interrupted = goes_on and raised is OutOfMemoryError
        assert (end_tags(folder) or {})["trial.state"] == (
            "interrupted" if interrupted else "failed"
        )
        assert (folder / "traceback.txt").exists() == (not interrupted)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "MemoryError"),
        (EXHAUSTED, "ResourceExhaustedError: OOM when allocating"),
    ],
)
def test_one_sentence_says_what_needs_less_memory(
    tmp_path: Path, error: Exception, words: str
) -> None:
    with Journal(tmp_path) as journal:
        journal.start(name="a run", experiment="svhn", store="sqlite:///x", tags={})
        with pytest.raises(OutOfMemoryError) as caught, _recorded(journal, goes_on=False):
            raise error
    advice = "a smaller training.batch_size or fewer filters need less"
    assert str(caught.value) == f"out of memory ({words}); {advice}."
