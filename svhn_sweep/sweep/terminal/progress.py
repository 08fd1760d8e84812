"""What a person watching sees of a sweep: rows that move in a terminal, plain lines everywhere
else.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from svhn_sweep.sweep.plan.formatting import format_difference
from svhn_sweep.trial_status import TrialStatus

WIDE = 110  # columns from which there is room for more than the numbers
QUIET = 30.0  # seconds between two reports of progress where there is no terminal
CONTROLS = dict.fromkeys(
    [*range(32), *range(127, 160)], " "
)  # no text from elsewhere moves the cursor
STYLES = {
    TrialStatus.complete: "green",
    TrialStatus.pruned: "yellow",
    TrialStatus.diverged: "red",
    TrialStatus.failed: "red",
    TrialStatus.interrupted: "yellow",
}


@dataclass(frozen=True)
class FinishedTrial:
    """A trial that is done with: `status` is a key of STYLES, `value` its result if it has one."""

    number: int
    status: TrialStatus
    value: float | None
    is_baseline: bool = False


@dataclass
class RunningTrial:
    """A trial in a worker: `epoch` of `epochs` are done, `values` by epoch are those of this
    session.
    """

    what: str
    epochs: int
    resumed_after: int
    since: float
    epoch: int
    values: dict[int, float] = field(default_factory=dict)


@dataclass
class StudyProgress:
    """`seconds` of this session went into `worked` trials; one resumed halfway is half a trial."""

    n_trials: int
    finished: list[FinishedTrial]
    compared: bool
    running: dict[int, RunningTrial] = field(default_factory=dict)
    seconds: float = 0.0
    worked: float = 0.0

    def results(self, baseline: bool = False) -> dict[int, float]:
        """The values of complete trials by number, or the baseline's alone; a pruned trial's
        value is no result.
        """
        complete = [
            trial
            for trial in self.finished
            if trial.status == TrialStatus.complete and trial.is_baseline >= baseline
        ]
        return {trial.number: trial.value for trial in complete if trial.value is not None}

    def counts(self) -> str:
        states = [trial.status for trial in self.finished]
        pruned = states.count(TrialStatus.pruned)
        failed = states.count(TrialStatus.failed) + states.count(TrialStatus.diverged)
        return (
            f"{len(states)}/{self.n_trials}  {states.count(TrialStatus.complete)} complete, "
            f"{pruned} pruned, {failed} failed"
        )

    def left(self, workers: int) -> str:
        """The time left if trials go on taking their mean; empty before the first, after the
        last, without a worker.
        """
        trials = self.n_trials - len(self.finished)
        if trials <= 0 or workers <= 0 or not self.worked:
            return ""
        work = trials - sum(trial.epoch / trial.epochs for trial in self.running.values())
        minutes = work * self.seconds / self.worked / min(workers, trials) / 60
        return f"about {duration(60 * max(1, round(minutes)))} left"


class SweepProgress:
    """A context manager: leaving it always gives the terminal back, and says how far each study is.

    One thread calls, rich's draws, and holds the console's lock while it waits for `lock`: no
    printing under `lock`.
    """

    def __init__(
        self,
        console: Console,
        metric: str,
        maximize: bool,
        workers: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console, self.metric, self.maximize, self.workers, self.clock = (
            console,
            metric,
            maximize,
            workers,
            clock,
        )
        self.studies: dict[str, StudyProgress] = {}
        self.lock = threading.Lock()
        self.reported = clock()
        self.drawing = console.is_terminal and not console.is_dumb_terminal
        self.live = Live(
            console=console, get_renderable=self._screen, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> "SweepProgress":
        if self.drawing:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()
        for name, study in self.studies.items():
            for line in self._summary(name, study):
                self.on_message(line)

    def add_study(
        self, name: str, n_trials: int, finished: Sequence[FinishedTrial], *, compared: bool = True
    ) -> None:
        """Announce a study, of whose `n_trials` some may have finished earlier; `compared`: it
        looks for the best.
        """
        with self.lock:
            done = [trial for trial in finished if trial.status != TrialStatus.interrupted]
            self.studies[name] = StudyProgress(n_trials, done, compared)
        if not self.drawing:
            self._print([name, self.studies[name].counts()])

    def on_trial_start(
        self, study: str, number: int, description: str, epochs: int, resumed_after: int = 0
    ) -> None:
        """A worker has begun a trial; `description` names its hyperparameters, or is "baseline"."""
        with self.lock:
            self.studies[study].running[number] = RunningTrial(
                description, epochs, resumed_after, self.clock(), resumed_after
            )
        if not self.drawing:
            self._print(
                [
                    self._name(study, number),
                    f"starts at epoch {min(resumed_after + 1, epochs)}/{epochs}",
                    description,
                ]
            )

    def on_epoch(self, study: str, number: int, epoch: int, value: float) -> None:
        """A started trial has finished its epoch `epoch`, counted from 1."""
        its = self.studies[study]
        with self.lock:
            its.running[number].epoch = epoch
            its.running[number].values[epoch] = value
        if not self.drawing and self.clock() - self.reported >= QUIET:
            self.reported = self.clock()
            for running, trial in its.running.items():
                self._print([self._name(study, running), *self._progress(trial)])
            self._print(self._summary(study, its))

    def on_trial_end(
        self, study: str, number: int, status: TrialStatus, value: float | None, reason: str = ""
    ) -> None:
        """A started trial has left its worker; an interrupted one will be run again, and does
        not count.
        """
        its = self.studies[study]
        trial = self.studies[study].running[number]
        seconds = self.clock() - trial.since
        with self.lock:
            del its.running[number]
            if status != TrialStatus.interrupted:
                its.finished.append(FinishedTrial(number, status, value, trial.what == "baseline"))
                its.seconds = its.seconds + seconds
                its.worked = its.worked + 1 - trial.resumed_after / trial.epochs
        after = (
            f" after epoch {trial.epoch}" if status != TrialStatus.complete and trial.epoch else ""
        )
        words = [self._name(study, number), status + after + (f": {reason}" if reason else "")]
        if value is not None:
            ahead = (
                self._gap(its, value)
                if status == TrialStatus.complete and trial.what != "baseline"
                else ""
            )
            first = (
                its.compared and len(its.finished) > 1 and self._best_of(its.results()) == number
            )
            best = f"best of {len(its.finished)}" if first else ""
            metric = "" if self.drawing else f"{self.metric} "
            words += [
                metric + self._said(value),
                f"{best} ({ahead})" if best and ahead else best or ahead,
            ]
        self._print(words, trial.what, duration(seconds), STYLES[status])

    def on_workers_change(self, workers: int) -> None:
        """So many trials can be trained at the same time from now on."""
        self.workers = workers

    def on_message(self, text: str) -> None:
        """Print a line that stays, above the rows that move."""
        self._print([text])

    def _print(self, words: Sequence[str], what: str = "", took: str = "", style: str = "") -> None:
        """One line, its second word in `style`; where a terminal is too narrow `what` gives way,
        then `took`.
        """
        room = self.console.width - len("  ".join([*filter(None, [*words, took]), ""]))
        if self.drawing and len(what) > room:
            what = f"{what[: room - 1]}…" if room > 12 else ""
            took = took if room >= -2 else ""
        shown = enumerate(word.translate(CONTROLS) for word in [*words, what, took])
        line = [Text(word, style if place == 1 else "") for place, word in shown if word]
        self.console.print(*line, sep="  ", soft_wrap=not self.drawing)

    def _name(self, study: str, number: int) -> str:
        """A confirmation's runs are runs of trials of the search, whose numbers are told as
        well.
        """
        return f"{study} {'trial' if self.studies[study].compared else 'run'} {number}"

    def _screen(self) -> Group:
        ratios = [None, 1, None, None, None, None, *[2] * (self.console.width >= WIDE)]
        trials = Table.grid(
            *[Column(no_wrap=True, ratio=ratio) for ratio in ratios], padding=(0, 2), expand=True
        )
        studies: list[Text] = []
        with self.lock:
            for name, study in self.studies.items():
                for number, trial in study.running.items():
                    words = [
                        Text(word)
                        for word in [self._name(name, number), *self._progress(trial), trial.what]
                    ]
                    trials.add_row(
                        words[0],
                        ProgressBar(trial.epochs, trial.epoch),
                        *words[1 : len(ratios) - 1],
                    )
                studies += [
                    Text(line, no_wrap=True, overflow="ellipsis")
                    for line in self._summary(name, study)
                ]
        return Group(trials, *studies)

    def _progress(self, trial: RunningTrial) -> list[str]:
        best = self._best_of(trial.values)
        words = (
            [self._said(trial.values[trial.epoch]), f"best {self._said(trial.values[best])}"]
            if best
            else ["", ""]
        )
        return [f"{trial.epoch}/{trial.epochs}", *words, duration(self.clock() - trial.since)]

    def _summary(self, name: str, study: StudyProgress) -> list[str]:
        """How far a study is, then its best trial if there is one."""
        results = study.results()
        lines = [f"{name}  {study.counts()}  {study.left(self.workers)}".rstrip()]
        best = self._best_of(results)
        if best is not None and study.compared:
            ahead = self._gap(study, results[best])
            baseline = study.results(baseline=True)
            where = f"trial {best}, " + (
                f"{ahead} vs baseline" if baseline else "baseline not finished"
            )
            where = "the baseline" if best in baseline else where
            lines.append(f"  best {self.metric} {self._said(results[best])} in {where}")
        return lines if self.drawing else ["".join(lines)]

    def _best_of(self, values: Mapping[int, float]) -> int | None:
        finite = [key for key, value in values.items() if math.isfinite(value)]
        return next(iter(sorted(finite, key=values.__getitem__, reverse=self.maximize)), None)

    def _gap(self, study: StudyProgress, value: float) -> str:
        """`value` minus the baseline's, whichever is better; empty before the baseline is
        complete.
        """
        baselines = study.results(baseline=True).values()
        return "".join(format_difference(value - baseline, self.metric) for baseline in baselines)

    def _said(self, value: float) -> str:
        return f"{100 * value:.2f} %" if self.metric.endswith("accuracy") else f"{value:.4f}"


def duration(seconds: float) -> str:
    """45 s, 2 min 10 s, 12 min, 1 h 40 min."""
    minutes, rest = divmod(round(seconds), 60)
    parts = (
        [(minutes // 60, "h"), (minutes % 60, "min")]
        if minutes >= 60
        else [(minutes, "min"), (rest, "s")]
    )
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"
