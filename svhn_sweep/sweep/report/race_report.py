"""Records the race of a confirmation in the run of its study."""

from pathlib import Path

from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.selection.race import Race
from svhn_sweep.tracking.journal import Journal

FIGURE = "race.png"


def log_race(journal: Journal, race: Race) -> None:
    """Logs each candidate's difference to the baseline and its interval after each pair.

    The number of pairs is the metrics' step. A race with other rules replaces those of an earlier
    one.

    Args:
        journal: Of the study's run.
        race: The race as far as it is.
    """
    for number, looks in race.looks.items():
        for look in looks:
            values = {"difference": look.difference, "low": look.low, "high": look.high}
            metrics = {f"race/trial_{number}/{name}": value for name, value in values.items()}
            journal.log_metrics(metrics, step=look.pairs, replace=True)


def draw_race(folder: Path, race: Race, settings: SweeperConfig) -> Path:
    """Draws a race with at least one look, as `FIGURE` in a folder.

    Args:
        folder: The folder of the study.
        race: The race as far as it is.
        settings: The sweep's settings.
    """
    from svhn_sweep.sweep.report import race_figure  # takes a second to import

    assert settings.confirm is not None
    path = folder / FIGURE
    race_figure.race(race, settings.metric, settings.confirm.margin).savefig(path)
    return path
