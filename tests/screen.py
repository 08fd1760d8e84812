"""Captures what the progress of a sweep writes."""

import io
import re
from collections.abc import Callable, Sequence

from rich.console import Console

from svhn_sweep.sweep.terminal.progress import SweepProgress
from svhn_sweep.sweep.terminal.study_progress import FinishedTrial
from svhn_sweep.trial_status import TrialStatus

DESCRIPTION = "learning_rate 1.2e-03, dropout 0.31"


class Screen:
    """Holds a `SweepProgress` of one study, `m`, and its output.

    Attributes:
        file: Receives all output.
        now: The progress' clock in seconds, which only `run_trial` and the test advance.
        progress: The progress of 8 trials on 2 workers.
    """

    def __init__(
        self,
        *,
        terminal: bool = False,
        metric: str = "val/accuracy",
        maximize: bool = True,
        earlier: Sequence[FinishedTrial] = (),
        width: int = 80,
        is_search: bool = True,
    ) -> None:
        self.file = io.StringIO()
        self.now = 1000.0
        console = Console(file=self.file, force_terminal=terminal, width=width)
        self.progress = SweepProgress(console, metric, maximize, workers=2, clock=lambda: self.now)
        self.progress.add_study("m", 8, earlier, is_search=is_search)

    def run_trial(
        self,
        number: int,
        status: str = "complete",
        value: float | None = None,
        reason: str = "",
        description: str = DESCRIPTION,
        epochs: int = 10,
        seconds: float = 60,
        after: int = 0,
    ) -> str:
        """Runs a trial from its start to its end; returns what is written at the end."""
        self.progress.on_trial_start("m", number, description, 10, after)
        for epoch in range(after + 1, epochs + 1):
            self.progress.on_epoch("m", number, epoch, 0.5)
        self.now += seconds
        return self.written_by(
            lambda: self.progress.on_trial_end("m", number, TrialStatus(status), value, reason)
        )

    def written_by(self, action: Callable[[], object]) -> str:
        """Returns what an action writes, without the codes for colours and cursor movements."""
        start = len(self.file.getvalue())
        action()
        written = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.file.getvalue()[start:])
        return written.replace("\r", "\n")

    def live_rows(self) -> str:
        """Returns the rows that rich's thread would draw now."""
        return self.written_by(self.progress.live.refresh)
