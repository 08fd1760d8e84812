"""Reads the results of a grid's runs from their journals."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from svhn_sweep.grid.plan import Grid, GridRunPlan
from svhn_sweep.tracking import journal
from svhn_sweep.trial_status import TrialStatus

# A run that failed is trained again; one that diverged would diverge again.
FINAL = (TrialStatus.complete, TrialStatus.diverged)


@dataclass(frozen=True)
class RunResult:
    """How far a run is.

    Attributes:
        plan: The run.
        config: The name of its config.
        status: How it ended; None if it was never started.
        reason: Why; empty if there is nothing to explain.
        accuracy: Its best validation accuracy, in 0..1; None unless it is complete.
        curve: Its validation accuracy by epoch.
    """

    plan: GridRunPlan
    config: str
    status: TrialStatus | None
    reason: str
    accuracy: float | None
    curve: list[float]

    @property
    def is_over(self) -> bool:
        """Whether the grid's command does not train it again."""
        return self.status in FINAL

    @property
    def is_complete(self) -> bool:
        """Whether it ran to its end."""
        return self.status is TrialStatus.complete


def read_results(grid: Grid, folder: Path) -> dict[str, RunResult]:
    """Reads the results of a grid's runs in its folder, by their paths."""
    configs = grid.configs
    return {run.path: read_result(folder, run, configs[run.path]) for run in grid.runs}


def count_left(results: Iterable[RunResult]) -> int:
    """Counts the runs that the grid's command trains, or trains again."""
    return sum(not result.is_over for result in results)


def read_result(folder: Path, plan: GridRunPlan, config: str) -> RunResult:
    """Reads the result of one run.

    Args:
        folder: The grid's folder.
        plan: The run.
        config: The name of its config.
    """
    run_folder = folder / plan.path
    tags = journal.end_tags(run_folder)
    if tags is None:
        started = (run_folder / journal.JOURNAL).exists()
        status = TrialStatus.interrupted if started else None
        return RunResult(plan, config, status, "", None, [])
    status = TrialStatus(str(tags["trial.state"]))
    epochs = journal.history(run_folder)
    summary = epochs.pop(0, {})
    return RunResult(
        plan,
        config,
        status,
        str(tags["trial.reason"]),
        summary.get("val/best_accuracy") if status is TrialStatus.complete else None,
        [epochs[epoch]["val/accuracy"] for epoch in sorted(epochs)],
    )


def accuracies(results: Iterable[RunResult]) -> dict[str, dict[int, float]]:
    """Returns the accuracy of each complete run by config, in their order, and seed."""
    by_config: dict[str, dict[int, float]] = {}
    for result in results:
        by_seed = by_config.setdefault(result.config, {})
        if result.accuracy is not None:
            by_seed[result.plan.seed] = result.accuracy
    return by_config


def diverged(results: Iterable[RunResult]) -> Counter[str]:
    """Returns the number of seeds with which each config diverged."""
    runs = {
        (result.config, result.plan.seed)
        for result in results
        if result.status is TrialStatus.diverged
    }
    return Counter(config for config, _ in runs)


def curves(results: Iterable[RunResult]) -> dict[str, list[list[float]]]:
    """Returns the curve of each complete seed by config; configs without any are left out."""
    by_config: dict[str, dict[int, list[float]]] = {}
    for result in results:
        if result.is_complete:
            by_config.setdefault(result.config, {})[result.plan.seed] = result.curve
    return {config: list(by_seed.values()) for config, by_seed in by_config.items()}
