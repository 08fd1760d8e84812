from pathlib import Path

import pytest

from svhn_sweep.errors import OutOfMemoryError, Terminated
from svhn_sweep.tracking.journal import Journal, ending
from svhn_sweep.trial import _recorded


def train(journal: Journal, stop: type[BaseException], *, over: bool) -> None:
    """A trial that a signal reaches before or after its end."""
    with _recorded(journal, goes_on=True):
        if over:
            journal.end("FINISHED", {"trial.state": "complete"})
        raise stop


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Terminated])
@pytest.mark.parametrize(("over", "state"), [(False, "interrupted"), (True, "complete")])
def test_an_end_that_is_written_stands(tmp_path: Path, stop: type[BaseException], over: bool, state: str) -> None:
    with Journal(tmp_path) as journal:
        journal.start(name="a run", experiment="svhn", store="sqlite:///x", tags={})
        with pytest.raises(stop):
            train(journal, stop, over=over)
    assert (ending(tmp_path) or {})["trial.state"] == state


class ResourceExhaustedError(Exception):
    """As TensorFlow's is called."""


@pytest.mark.parametrize(
    ("error", "raised", "of_a_sweep", "of_its_own"),
    [
        (ResourceExhaustedError("OOM when allocating"), OutOfMemoryError, "interrupted", "failed"),
        (RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: 2 GB"), OutOfMemoryError, "interrupted", "failed"),
        (MemoryError(), OutOfMemoryError, "interrupted", "failed"),
        (RuntimeError("no luck"), RuntimeError, "failed", "failed"),
    ],
)
def test_for_want_of_memory_a_sweeps_trial_is_only_interrupted(
    tmp_path: Path, error: Exception, raised: type[Exception], of_a_sweep: str, of_its_own: str
) -> None:
    for goes_on, state in ((True, of_a_sweep), (False, of_its_own)):
        folder = tmp_path / state / str(goes_on)
        with Journal(folder) as journal:
            journal.start(name="a run", experiment="svhn", store="sqlite:///x", tags={})
            with pytest.raises(raised), _recorded(journal, goes_on=goes_on):
                raise error
        assert (ending(folder) or {})["trial.state"] == state
