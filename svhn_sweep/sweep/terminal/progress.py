"""Shows the progress of a sweep: live rows in a terminal, plain lines everywhere else."""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from svhn_sweep.sweep.plan.formatting import format_difference, format_metric
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

    A context manager: leaving it restores the terminal and prints a summary of each study. One
    thread calls the methods and rich's thread draws. rich holds the console's lock while it waits
    for `lock`, therefore nothing is printed under `lock`.
    """

    def __init__(
        self,
        console: Console,
        metric: str,
        maximize: bool,
        workers: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Creates a progress without studies, which draws nothing yet.

        Args:
            console: Receives the output.
            metric: The name of the sweep's metric.
            maximize: Whether larger values are better.
            workers: How many trials can be trained at the same time.
            clock: Returns a time in seconds.
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
            console=console, get_renderable=self._render, refresh_per_second=4, transient=True
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
        """Adds a study; outside a terminal its counts are printed.

        Args:
            name: The study's name.
            n_trials: The study's budget of trials.
            finished: Trials that ended before; interrupted ones are not counted.
            is_search: Whether the study searches the best config; False for a confirmation.
        """
        with self.lock:
            counted = [trial for trial in finished if trial.status != TrialStatus.interrupted]
            self.studies[name] = StudyProgress(n_trials, counted, is_search)
        if not self.is_terminal:
            self._print([name, self.studies[name].format_counts()])

    def set_budget(self, name: str, n_trials: int) -> None:
        """Changes a study's budget of trials, which a race may lower."""
        with self.lock:
            self.studies[name].n_trials = n_trials

    def on_trial_start(
        self, study: str, number: int, description: str, epochs: int, resumed_after: int = 0
    ) -> None:
        """Implements `SweepCallbacks`."""
        trial = RunningTrial(description, epochs, resumed_after, self.clock(), resumed_after)
        with self.lock:
            self.studies[study].running[number] = trial
        if not self.is_terminal:
            first_epoch = min(resumed_after + 1, epochs)
            start = f"starts at epoch {first_epoch}/{epochs}"
            self._print([self._trial_name(study, number), start, description])

    def on_epoch(self, study: str, number: int, epoch: int, value: float) -> None:
        """Implements `SweepCallbacks`."""
        progress = self.studies[study]
        with self.lock:
            progress.running[number].epoch = epoch
            progress.running[number].values[epoch] = value
        self.on_poll()

    def on_poll(self) -> None:
        """Implements `SweepCallbacks`: where there is no terminal, prints all trials at times."""
        if self.is_terminal or self.clock() - self.last_report < MIN_SECONDS_BETWEEN_REPORTS:
            return
        self.last_report = self.clock()
        for name, study in self.studies.items():
            for number, trial in study.running.items():
                self._print([self._trial_name(name, number), *self._trial_progress(trial)])
            if study.running:
                self._print(self._summary(name, study))

    def on_trial_end(
        self, study: str, number: int, status: TrialStatus, value: float | None, reason: str = ""
    ) -> None:
        """Implements `SweepCallbacks`."""
        progress = self.studies[study]
        trial = progress.running.get(number)
        if trial is None:  # a signal came before `on_trial_start`
            return
        seconds = self.clock() - trial.started
        with self.lock:
            progress.finish(number, status, value, seconds)
        is_complete = status == TrialStatus.complete
        after = "" if is_complete or not trial.epoch else f" after epoch {trial.epoch}"
        columns = [
            self._trial_name(study, number),
            status + after + (f": {reason}" if reason else ""),
        ]
        if value is not None:
            metric = "" if self.is_terminal else f"{self.metric} "
            columns += [
                metric + format_metric(value, self.metric),
                self._comparison(progress, number, value, is_complete),
            ]
        self._print(columns, trial.description, format_duration(seconds), STYLES[status])

    def on_workers_change(self, workers: int) -> None:
        """Implements `SweepCallbacks`."""
        self.workers = workers

    def on_message(self, text: str) -> None:
        """Prints a line, in a terminal above the live rows."""
        self._print([text])

    def _comparison(
        self, study: StudyProgress, number: int, value: float, is_complete: bool
    ) -> str:
        """Returns "best of 3 (+0.42 points)", one of the two, or nothing."""
        is_compared = is_complete and not study.is_baseline(number)
        difference = self._difference_to_baseline(study, value) if is_compared else ""
        n_finished = len(study.finished)
        best_number = self._best_key(study.complete_values())
        is_best = study.is_search and n_finished > 1 and best_number == number
        best = f"best of {n_finished}" if is_best else ""
        return f"{best} ({difference})" if best and difference else best or difference

    def _print(
        self, columns: Sequence[str], description: str = "", duration: str = "", style: str = ""
    ) -> None:
        """Prints one line, its second column in `style`.

        In a terminal that is too narrow the description follows in lines of its own, and the
        duration is left out.
        """
        width = self.console.width - len("  ".join([*filter(None, [*columns, duration]), ""]))
        below = self.is_terminal and len(description) > width
        duration = "" if self.is_terminal and width < -2 else duration
        texts = [*columns, "" if below else description, duration]
        line = [
            Text(_printable(text), style if index == 1 else "")
            for index, text in enumerate(texts)
            if text
        ]
        self.console.print(*line, sep="  ", soft_wrap=not self.is_terminal)
        if below:
            self.console.print(_indented(description))

    def _trial_name(self, study: str, number: int) -> str:
        """Returns "study trial 7"; "run" in a confirmation, whose lines name search trials too."""
        return f"{study} {'trial' if self.studies[study].is_search else 'run'} {number}"

    def _render(self) -> Group:
        """Returns the live rows: one for each running trial, then a summary of each study."""
        has_descriptions = self.console.width >= MIN_COLUMNS_FOR_DESCRIPTIONS
        trials = Table.grid(padding=(0, 2), expand=True)
        for ratio in (None, 1, None, None, None, None):  # the bar takes what the texts leave
            trials.add_column(no_wrap=True, ratio=ratio)
        if has_descriptions:
            trials.add_column(no_wrap=True, ratio=2)
        studies: list[Text] = []
        with self.lock:
            for name, study in self.studies.items():
                for number, trial in study.running.items():
                    bar = ProgressBar(trial.epochs, trial.epoch)
                    texts = self._trial_progress(trial)
                    if has_descriptions:
                        texts.append(trial.description)
                    trials.add_row(Text(self._trial_name(name, number)), bar, *map(Text, texts))
                lines = self._summary(name, study)
                studies += [Text(line, no_wrap=True, overflow="ellipsis") for line in lines]
            below = [] if has_descriptions else self._descriptions(n_rows=len(studies))
        return Group(trials, *below, *studies)

    def _descriptions(self, n_rows: int) -> list[Padding]:
        """Returns the running trials' hyperparameters, if `n_rows` others leave lines for them."""
        running = [
            (self._trial_name(name, number), trial.description)
            for name, study in self.studies.items()
            for number, trial in study.running.items()
            if not study.is_baseline(number)
        ]
        if n_rows + 3 * len(running) > self.console.height:  # a row, and two lines to describe it
            return []
        return [_indented(f"{name}: {description}") for name, description in running]

    def _trial_progress(self, trial: RunningTrial) -> list[str]:
        """Returns epochs, last value, best value and duration since the worker began.

        Before the first value its cell has the epoch that runs.
        """
        best = self._best_key(trial.values)
        in_first = f"in epoch {min(trial.epoch + 1, trial.epochs)}"
        last_value = format_metric(trial.values[trial.epoch], self.metric) if best else in_first
        best_value = f"best {format_metric(trial.values[best], self.metric)}" if best else ""
        duration = format_duration(self.clock() - trial.started)
        return [f"{trial.epoch}/{trial.epochs}", last_value, best_value, duration]

    def _summary(self, name: str, study: StudyProgress) -> list[str]:
        """Returns the study's counts and time left, then its best trial if there is one."""
        values = study.complete_values()
        counts = f"{name}  {study.format_counts()}  {study.format_time_left(self.workers)}"
        lines = [counts.rstrip()]
        best = self._best_key(values)
        if best is not None and study.is_search:
            value = format_metric(values[best], self.metric)
            lines.append(f"  best {self.metric} {value} in {self._describe_best(study, best)}")
            if not study.is_baseline(best):
                lines.append(f"  {study.description(best)}")
        return lines if self.is_terminal else ["".join(lines)]

    def _describe_best(self, study: StudyProgress, best: int) -> str:
        if study.is_baseline(best):
            return "the baseline"
        difference = self._difference_to_baseline(study, study.complete_values()[best])
        if not difference:
            return f"trial {best}, baseline not finished"
        return f"trial {best}, {difference} vs baseline"

    def _best_key(self, values: Mapping[int, float]) -> int | None:
        """Returns the key of the best finite value, of equal ones the first."""
        finite = sorted(key for key, value in values.items() if math.isfinite(value))
        best = max if self.maximize else min
        return best(finite, key=values.__getitem__, default=None)

    def _difference_to_baseline(self, study: StudyProgress, value: float) -> str:
        """Returns `value` minus the baseline's; empty before the baseline is complete."""
        baseline = study.baseline_value()
        return "" if baseline is None else format_difference(value - baseline, self.metric)


def _printable(text: str) -> str:
    return text.translate(CONTROL_CHARACTERS)


def _indented(text: str) -> Padding:
    """Text on lines of its own, wrapped at the width of the terminal."""
    return Padding(Text(_printable(text)), (0, 0, 0, 4), expand=False)
