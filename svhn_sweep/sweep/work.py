"""What a sweep works with, from its first trial to its report."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console

from svhn_sweep.sweep import storage
from svhn_sweep.sweep.claims import Claims
from svhn_sweep.sweep.driver import Driver
from svhn_sweep.sweep.endings import finished
from svhn_sweep.sweep.parent_run import ParentRun
from svhn_sweep.sweep.plan import Plan
from svhn_sweep.sweep.settings import SweeperConfig
from svhn_sweep.sweep.study import Study
from svhn_sweep.sweep.view import View
from svhn_sweep.tracking.live import Live


@dataclass(frozen=True)
class Work:
    """A driver and its studies.

    Attributes:
        studies: the searches, one for each model.
        parents: the run of each study.
        driver: has their trials trained.
        kept: where Optuna keeps the studies.
        claims: on trials, where other drivers work on the same studies.
    """

    studies: Sequence[Study]
    parents: Sequence[ParentRun]
    driver: Driver
    kept: storage.Storage
    claims: Claims | None

    @property
    def settings(self) -> SweeperConfig:
        return self.driver.settings

    def off(
        self,
        studies: Sequence[Study],
        deadline: float = math.inf,
        told: Callable[[Study], object] = lambda study: None,
    ) -> bool:
        """`Driver.work_off`, to be watched in the terminal."""
        settings = self.settings
        view = View(Console(highlight=False), settings.metric, settings.maximize, len(self.driver.open))
        for study in studies:
            searching = study.plan.role == "trial"
            view.study(study.plan.name, study.n_trials, finished(study), compared=searching)
        with view:
            return self.driver.work_off(studies, view, deadline, told)


def open_study(
    plan: Plan,
    settings: SweeperConfig,
    kept: storage.Storage,
    threads: int,
    claims: Claims | None,
    *,
    prune: bool = True,
) -> Study:
    """Create the plan's study or go on with it, while no other driver does."""
    with storage.exclusive(kept, plan.name):
        return Study(plan, settings, kept, threads, prune=prune, claims=claims)


def follow(live: Live, studies: Sequence[Study]) -> None:
    """Trials of earlier starts too: MLflow may lack their ends, and a late baseline gives them a distance."""
    for study in studies:
        for trial in study.trials():
            if study.ownership.has(trial):
                live.follow(study.folder(trial.number))
