"""Compares the configs of a grid over their seeds; pure functions of their accuracies."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean, stdev

from svhn_sweep.sweep.selection.race import VerdictOutcome, outcome_of
from svhn_sweep.sweep.selection.repeated_intervals import Interval, single_interval

# Of accuracy, as the default of a sweep's confirm.margin: smaller differences count as none.
MARGIN = 0.005


@dataclass(frozen=True)
class Row:
    """One config of a grid.

    Attributes:
        config: Its name.
        seeds: The number of its complete runs with different seeds.
        diverged: The number of seeds with which it diverged.
        mean: Their mean accuracy, in 0..1; None without any.
        deviation: Their sample standard deviation; None with fewer than two.
        interval: The mean's 95 % t interval; None with fewer than two.
        common_seeds: The number of seeds that it shares with the first config.
        difference: Its accuracy minus the first config's, the mean over the common seeds; None
            without any, and for the first config.
        difference_interval: The difference's 95 % t interval; None with fewer than two seeds.
        outcome: What that interval says; None without it, and where a run of this config or the
            first one has diverged: the seeds that are left are not like the others.
    """

    config: str
    seeds: int
    diverged: int
    mean: float | None
    deviation: float | None
    interval: Interval | None
    common_seeds: int
    difference: float | None
    difference_interval: Interval | None
    outcome: VerdictOutcome | None


def compare(
    accuracies: Mapping[str, Mapping[int, float]], diverged: Mapping[str, int]
) -> list[Row]:
    """Compares configs with the first one, seed by seed.

    Args:
        accuracies: The accuracy by config and seed: of at least one config, which may have none.
        diverged: The number of seeds with which a config diverged, if it did.

    Returns:
        One row for each config, in their order.
    """
    first = next(iter(accuracies))
    rows = []
    for config, by_seed in accuracies.items():
        values = list(by_seed.values())
        others = accuracies[first] if config != first else {}
        differences = [by_seed[seed] - others[seed] for seed in by_seed if seed in others]
        interval = single_interval(differences) if len(differences) > 1 else None
        outcome = outcome_of(interval, MARGIN, maximize=True) if interval else None
        all_converged = not diverged.get(config) and not diverged.get(first)
        rows.append(
            Row(
                config=config,
                seeds=len(values),
                diverged=diverged.get(config, 0),
                mean=mean(values) if values else None,
                deviation=stdev(values) if len(values) > 1 else None,
                interval=single_interval(values) if len(values) > 1 else None,
                common_seeds=len(differences),
                difference=mean(differences) if differences else None,
                difference_interval=interval,
                outcome=outcome if all_converged else None,
            )
        )
    return rows
