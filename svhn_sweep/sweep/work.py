"""What a sweep works with, from its first trial to its report."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from optuna.storages import RDBStorage
from rich.console import Console

from svhn_sweep.sweep.endings import finished
from svhn_sweep.sweep.parent_run import ParentRun
from svhn_sweep.sweep.settings import SweeperConfig
from svhn_sweep.sweep.study import Study
from svhn_sweep.sweep.view import View
from svhn_sweep.sweep.workers.scheduler import Scheduler
from svhn_sweep.tracking.live import Live


@dataclass(frozen=True)
class Work:
    """A sweep's studies and what trains them.

    Attributes:
        studies: the searches, one for each model.
        parents: the run of each study.
        scheduler: has their trials trained.
        storage: where Optuna keeps the studies.
    """

    studies: Sequence[Study]
    parents: Sequence[ParentRun]
    scheduler: Scheduler
    storage: RDBStorage

    @property
    def settings(self) -> SweeperConfig:
        return self.scheduler.settings

    def off(
        self,
        studies: Sequence[Study],
        deadline: float = math.inf,
        told: Callable[[Study], object] = lambda study: None,
    ) -> bool:
        """`Scheduler.run_until_done`, to be watched in the terminal."""
        settings = self.settings
        view = View(Console(highlight=False), settings.metric, settings.maximize, len(self.scheduler.slots.open()))
        for study in studies:
            searching = study.plan.role == "trial"
            view.study(study.plan.name, study.n_trials, finished(study), compared=searching)
        with view:
            return self.scheduler.run_until_done(studies, view, deadline, told)


def follow(live: Live, studies: Sequence[Study]) -> None:
    """Trials of earlier starts too: MLflow may lack their ends, and a late baseline gives them a distance."""
    for study in studies:
        for trial in study.trials():
            live.follow(study.folder(trial.number))
