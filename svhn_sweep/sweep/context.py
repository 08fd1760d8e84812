"""What a sweep works with, from its first trial to its report."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from optuna.storages import RDBStorage
from rich.console import Console

from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.report.study_run import StudyRun
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.terminal.progress import FinishedTrial, SweepProgress
from svhn_sweep.sweep.workers.scheduler import Scheduler
from svhn_sweep.tracking.background_uploader import BackgroundUploader
from svhn_sweep.trial_status import TrialStatus


@dataclass(frozen=True)
class SweepContext:
    """A sweep's studies and what trains them.

    Attributes:
        studies: the searches, one for each model.
        parents: the run of each study.
        scheduler: has their trials trained.
        storage: where Optuna keeps the studies.
    """

    studies: Sequence[Study]
    parents: Sequence[StudyRun]
    scheduler: Scheduler
    storage: RDBStorage

    @property
    def settings(self) -> SweeperConfig:
        return self.scheduler.settings

    def run_until_done(
        self,
        studies: Sequence[Study],
        deadline: float = math.inf,
        on_study_change: Callable[[Study], object] = lambda study: None,
    ) -> bool:
        """`Scheduler.run_until_done`, to be watched in the terminal."""
        settings = self.settings
        progress = SweepProgress(
            Console(highlight=False),
            settings.metric,
            settings.maximize,
            len(self.scheduler.slots.open()),
        )
        for study in studies:
            searching = study.plan.role == "trial"
            progress.add_study(
                study.plan.name, study.n_trials, _finished(study), compared=searching
            )
        with progress:
            return self.scheduler.run_until_done(studies, progress, deadline, on_study_change)


def watch(uploader: BackgroundUploader, studies: Sequence[Study]) -> None:
    """Trials of earlier starts too: MLflow may lack their ends, and a late baseline gives them a
    distance.
    """
    for study in studies:
        for trial in study.trials():
            uploader.watch(study.folder(trial.number))


def _finished(study: Study) -> list[FinishedTrial]:
    """The study's finished trials as the terminal shows them."""
    return [
        FinishedTrial(
            trial.number,
            TrialStatus(trial.user_attrs["state"]),
            trial.value,
            study.plan.is_baseline(trial.number),
        )
        for trial in study.finished()
    ]
