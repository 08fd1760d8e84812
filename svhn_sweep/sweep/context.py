"""The objects that a sweep shares from its first trial to its report."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from optuna.storages import RDBStorage
from rich.console import Console

from svhn_sweep.sweep.plan.formatting import format_items
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.report.study_run import StudyRun
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.terminal.progress import SweepProgress
from svhn_sweep.sweep.terminal.study_progress import FinishedTrial
from svhn_sweep.sweep.workers.scheduler import Scheduler
from svhn_sweep.tracking.background_uploader import BackgroundUploader
from svhn_sweep.trial_status import TrialStatus


@dataclass(frozen=True)
class SweepContext:
    """Holds a sweep's studies and what trains them.

    Attributes:
        study_runs: Each study with its MLflow run; one for each model.
        scheduler: Trains the studies' trials.
        storage: Optuna's storage of the studies.
    """

    study_runs: Sequence[StudyRun]
    scheduler: Scheduler
    storage: RDBStorage

    @property
    def studies(self) -> list[Study]:
        """The searches, one for each model."""
        return [study_run.study for study_run in self.study_runs]

    @property
    def settings(self) -> SweeperConfig:
        """The sweep's settings."""
        return self.scheduler.settings

    @property
    def worker_count(self) -> int:
        """The number of workers that can train at the same time now."""
        return self.scheduler.pool.capacity()

    def run_until_done(
        self,
        studies: Sequence[Study],
        deadline: float = math.inf,
        on_study_change: Callable[[Study], object] = lambda study: None,
        message_after: Callable[[Study], str] = lambda study: "",
    ) -> bool:
        """Trains until nothing is left, with progress in the terminal.

        Args:
            studies: Searches or confirmations; trials of the first one are started first.
            deadline: Value of `time.monotonic()` at which training is interrupted.
            on_study_change: Called with a study after one of its trials ended for good.
            message_after: Returns a line to print after that, or nothing.

        Returns:
            True when the studies have nothing left to train, False when the deadline is reached.

        Raises:
            SweepError: Too many trials failed in a row, or no worker can start.
        """
        settings = self.settings
        console = Console(highlight=False)
        self._announce_workers(studies, console)
        progress = SweepProgress(console, settings.metric, settings.maximize, self.worker_count)
        for study in studies:
            searching = study.plan.role == "trial"
            progress.add_study(
                study.plan.name, study.n_trials, _finished_trials(study), is_search=searching
            )

        def on_change(study: Study) -> None:
            on_study_change(study)
            progress.set_budget(study.plan.name, study.n_trials)
            if message := message_after(study):
                progress.on_message(message)

        with progress:
            return self.scheduler.run_until_done(studies, progress, deadline, on_change)

    def _announce_workers(self, studies: Sequence[Study], console: Console) -> None:
        """Prints that workers start, which takes a while before the first trial does."""
        n_workers = min(self.worker_count, sum(study.trials_left() for study in studies))
        if n_workers and not self.scheduler.pool.has_workers():
            workers = format_items(n_workers, "worker")
            console.print(f"starting {workers} with TensorFlow, some 10 to 30 s")


def watch_trials(uploader: BackgroundUploader, studies: Sequence[Study]) -> None:
    """Has MLflow updated about the trials that earlier starts of the sweep have trained.

    MLflow may lack their ends, and a baseline that completes late adds a metric to each.
    """
    for study in studies:
        for trial in study.trials():
            uploader.watch(study.plan.trial_dir(trial.number))


def _finished_trials(study: Study) -> list[FinishedTrial]:
    return [
        FinishedTrial(
            trial.number,
            TrialStatus(trial.user_attrs["state"]),
            trial.value,
            study.plan.describe(trial.number, trial.params),
        )
        for trial in study.finished()
    ]
