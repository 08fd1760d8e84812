"""The progress of a sweep: moving rows in a terminal, plain lines everywhere else."""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from svhn_sweep.sweep.plan.formatting import format_difference
from svhn_sweep.sweep.terminal.study_progress import (
    FinishedTrial,
    RunningTrial,
    StudyProgress,
    format_duration,
)
from svhn_sweep.trial_status import TrialStatus

MIN_COLUMNS_FOR_DESCRIPTIONS = 110
MIN_SECONDS_BETWEEN_REPORTS = 30.0  # of running trials, where there is no terminal
# Text from elsewhere, an error message for example, must not move the cursor.
CONTROL_CHARACTERS = dict.fromkeys([*range(32), *range(127, 160)], " ")
STYLES = {
    TrialStatus.complete: "green",
    TrialStatus.pruned: "yellow",
    TrialStatus.diverged: "red",
    TrialStatus.failed: "red",
    TrialStatus.interrupted: "yellow",
}


class SweepProgress:
    """Shows the progress of studies; implements `SweepCallbacks`.

    A context manager: leaving it restores the terminal and prints how far each study is. One thread
    calls the methods and rich's thread draws. rich holds the console's lock while it waits for
    `lock`, therefore nothing is printed under `lock`.
    """

    def __init__(
        self,
        console: Console,
        metric: str,
        maximize: bool,
        workers: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Draws nothing yet.

        Args:
            console: to print on.
            metric: the name of the values.
            maximize: whether a higher value is better.
            workers: how many trials can be trained at the same time.
            clock: the time in seconds.
        """
        self.console = console
        self.metric = metric
        self.maximize = maximize
        self.workers = workers
        self.clock = clock
        self.studies: dict[str, StudyProgress] = {}
        self.lock = threading.Lock()
        self.last_report = clock()
        self.is_terminal = console.is_terminal and not console.is_dumb_terminal
        self.live = Live(
            console=console, get_renderable=self._screen, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> "SweepProgress":
        if self.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()
        for name, study in self.studies.items():
            for line in self._summary(name, study):
                self.on_message(line)

    def add_study(
        self,
        name: str,
        n_trials: int,
        finished: Sequence[FinishedTrial],
        *,
        is_search: bool = True,
    ) -> None:
        """Announces a study.

        Args:
            name: of the study.
            n_trials: how many trials it will have.
            finished: trials that ended earlier; interrupted ones do not count.
            is_search: whether it looks for the best config; a confirmation does not.
        """
        with self.lock:
            counted = [trial for trial in finished if trial.status != TrialStatus.interrupted]
            self.studies[name] = StudyProgress(n_trials, counted, is_search)
        if not self.is_terminal:
            self._print([name, self.studies[name].format_counts()])

    def on_trial_start(
        self, study: str, number: int, description: str, epochs: int, resumed_after: int = 0
    ) -> None:
        """See `SweepCallbacks`."""
        trial = RunningTrial(description, epochs, resumed_after, self.clock(), resumed_after)
        with self.lock:
            self.studies[study].running[number] = trial
        if not self.is_terminal:
            first_epoch = min(resumed_after + 1, epochs)
            start = f"starts at epoch {first_epoch}/{epochs}"
            self._print([self._name(study, number), start, description])

    def on_epoch(self, study: str, number: int, epoch: int, value: float) -> None:
        """See `SweepCallbacks`."""
        progress = self.studies[study]
        with self.lock:
            progress.running[number].epoch = epoch
            progress.running[number].values[epoch] = value
        if self.is_terminal or self.clock() - self.last_report < MIN_SECONDS_BETWEEN_REPORTS:
            return
        self.last_report = self.clock()
        for running_number, trial in progress.running.items():
            self._print([self._name(study, running_number), *self._trial_progress(trial)])
        self._print(self._summary(study, progress))

    def on_trial_end(
        self, study: str, number: int, status: TrialStatus, value: float | None, reason: str = ""
    ) -> None:
        """See `SweepCallbacks`."""
        progress = self.studies[study]
        trial = progress.running[number]
        seconds = self.clock() - trial.started
        with self.lock:
            progress.finish(number, status, value, seconds)
        is_complete = status == TrialStatus.complete
        after = "" if is_complete or not trial.epoch else f" after epoch {trial.epoch}"
        columns = [self._name(study, number), status + after + (f": {reason}" if reason else "")]
        if value is not None:
            metric = "" if self.is_terminal else f"{self.metric} "
            columns += [
                metric + self._format_value(value),
                self._standing(progress, number, trial, value, is_complete),
            ]
        self._print(columns, trial.description, format_duration(seconds), STYLES[status])

    def on_workers_change(self, workers: int) -> None:
        """See `SweepCallbacks`."""
        self.workers = workers

    def on_message(self, text: str) -> None:
        """Prints a line that stays, above the rows that move."""
        self._print([text])

    def _standing(
        self, study: StudyProgress, number: int, trial: RunningTrial, value: float, complete: bool
    ) -> str:
        """How good a value is: "best of 3 (+0.42 points)", one of the two, or nothing."""
        has_lead = complete and not trial.is_baseline
        lead = self._lead(study, value) if has_lead else ""
        is_best = (
            study.is_search and len(study.finished) > 1 and self._best_of(study.results()) == number
        )
        best = f"best of {len(study.finished)}" if is_best else ""
        return f"{best} ({lead})" if best and lead else best or lead

    def _print(
        self, columns: Sequence[str], description: str = "", duration: str = "", style: str = ""
    ) -> None:
        """Prints one line, its second column in `style`.

        In a terminal that is too narrow the description is cut first, then the duration.
        """
        room = self.console.width - len("  ".join([*filter(None, [*columns, duration]), ""]))
        if self.is_terminal and len(description) > room:
            description = f"{description[: room - 1]}…" if room > 12 else ""
            duration = duration if room >= -2 else ""
        texts = [text.translate(CONTROL_CHARACTERS) for text in [*columns, description, duration]]
        line = [Text(text, style if index == 1 else "") for index, text in enumerate(texts) if text]
        self.console.print(*line, sep="  ", soft_wrap=not self.is_terminal)

    def _name(self, study: str, number: int) -> str:
        """A confirmation has runs: its messages name trials of the search as well."""
        return f"{study} {'trial' if self.studies[study].is_search else 'run'} {number}"

    def _screen(self) -> Group:
        """What moves in a terminal: a row for each running trial, then a summary of each study."""
        has_descriptions = self.console.width >= MIN_COLUMNS_FOR_DESCRIPTIONS
        ratios = [None, 1, None, None, None, None, *[2] * has_descriptions]
        columns = [Column(no_wrap=True, ratio=ratio) for ratio in ratios]
        trials = Table.grid(*columns, padding=(0, 2), expand=True)
        studies: list[Text] = []
        with self.lock:
            for name, study in self.studies.items():
                for number, trial in study.running.items():
                    bar = ProgressBar(trial.epochs, trial.epoch)
                    texts = [*self._trial_progress(trial), trial.description]
                    cells = [Text(text) for text in texts]
                    trials.add_row(Text(self._name(name, number)), bar, *cells[: len(ratios) - 2])
                lines = self._summary(name, study)
                studies += [Text(line, no_wrap=True, overflow="ellipsis") for line in lines]
        return Group(trials, *studies)

    def _trial_progress(self, trial: RunningTrial) -> list[str]:
        """Epochs, last value, best value of this session, duration."""
        best = self._best_of(trial.values)
        last_value = self._format_value(trial.values[trial.epoch]) if best else ""
        best_value = f"best {self._format_value(trial.values[best])}" if best else ""
        duration = format_duration(self.clock() - trial.started)
        return [f"{trial.epoch}/{trial.epochs}", last_value, best_value, duration]

    def _summary(self, name: str, study: StudyProgress) -> list[str]:
        """How far a study is, then its best trial if there is one."""
        results = study.results()
        counts = f"{name}  {study.format_counts()}  {study.format_time_left(self.workers)}"
        lines = [counts.rstrip()]
        best = self._best_of(results)
        if best is not None and study.is_search:
            value = self._format_value(results[best])
            lines.append(f"  best {self.metric} {value} in {self._describe_best(study, best)}")
        return lines if self.is_terminal else ["".join(lines)]

    def _describe_best(self, study: StudyProgress, best: int) -> str:
        baseline = study.results(baseline_only=True)
        if best in baseline:
            return "the baseline"
        if not baseline:
            return f"trial {best}, baseline not finished"
        return f"trial {best}, {self._lead(study, study.results()[best])} vs baseline"

    def _best_of(self, values: Mapping[int, float]) -> int | None:
        """The key of the best finite value, of equals the first."""
        finite = [key for key, value in values.items() if math.isfinite(value)]
        return next(iter(sorted(finite, key=values.__getitem__, reverse=self.maximize)), None)

    def _lead(self, study: StudyProgress, value: float) -> str:
        """`value` minus the baseline's; empty before the baseline is complete."""
        baselines = study.results(baseline_only=True).values()
        return "".join(format_difference(value - baseline, self.metric) for baseline in baselines)

    def _format_value(self, value: float) -> str:
        return f"{100 * value:.2f} %" if self.metric.endswith("accuracy") else f"{value:.4f}"
