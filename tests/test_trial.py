from pathlib import Path

import pytest

from svhn_sweep.errors import Terminated
from svhn_sweep.tracking.journal import Journal, ending
from svhn_sweep.trial import _recorded


def train(journal: Journal, stop: type[BaseException], *, over: bool) -> None:
    """A trial that a signal reaches before or after its end."""
    with _recorded(journal):
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
