"""Weighs the values of a study's trials against the size of their models."""

import math
from collections.abc import Callable, Sequence
from operator import attrgetter

from svhn_sweep.sweep.plan.formatting import (
    format_count,
    format_list,
    format_metric,
    format_seconds,
    is_accuracy,
)
from svhn_sweep.sweep.plan.plan import trial_in_sentence
from svhn_sweep.sweep.report.leaderboard import Row

# What counts as nearly the best: about as much as another seed changes. By loss it is a share,
# since half a point is about a twentieth of the errors that good models make.
MAX_ACCURACY_LOST = 0.005
MAX_LOSS_RATIO = 1.05

Price = Callable[[Row], int | None]  # None if the trial has not recorded it
parameters: Price = attrgetter("parameters")
multiply_adds: Price = attrgetter("multiply_adds")


def pareto_front(rows: Sequence[Row], price: Price) -> list[Row]:
    """Returns the complete trials that no cheaper or equally expensive one equals or beats.

    Args:
        rows: The leaderboard, as `make_rows` returns it.
        price: Of a trial, the lower the better; trials without one are left out.

    Returns:
        The cheapest trial first, the best one last. Of trials that are equal in both it has the
        first.
    """
    priced = [
        (cost, row.rank, row) for row in rows if row.rank and (cost := price(row)) is not None
    ]
    front: list[Row] = []
    best_rank = math.inf
    for _, rank, row in sorted(priced, key=lambda item: item[:2]):
        if rank < best_rank and not (front and row.value == front[-1].value):
            front.append(row)
            best_rank = rank
    return front


def smallest_near_best(rows: Sequence[Row], metric: str) -> Row | None:
    """Returns the complete trial with the fewest parameters whose value is nearly the best.

    Nearly means within `MAX_ACCURACY_LOST` of the best, or a loss of at most `MAX_LOSS_RATIO` times
    the lowest.

    Args:
        rows: The leaderboard, best first, as `make_rows` returns it.
        metric: The name of the sweep's metric.

    Returns:
        None if the best trial itself has the fewest parameters, or has not recorded them.
    """
    best = next((row for row in rows if row.rank == 1), None)
    if best is None or best.parameters is None:
        return None
    limit = value_limit(best, metric)
    close = [
        row
        for row in pareto_front(rows, parameters)
        if row.value is not None
        and (row.value >= limit if is_accuracy(metric) else row.value <= limit)
    ]
    return close[0] if close[0].parameters != best.parameters else None


def value_limit(best: Row, metric: str) -> float:
    """Returns the worst value that is nearly as good as the best trial's."""
    assert best.value is not None
    if is_accuracy(metric):
        return best.value - MAX_ACCURACY_LOST - 1e-9  # rounding
    return best.value * MAX_LOSS_RATIO


def nearness(metric: str) -> str:
    """Describes the trials that are nearly as good as the best one."""
    if is_accuracy(metric):
        return f"within {100 * MAX_ACCURACY_LOST:g} points of the best"
    return f"within {100 * MAX_LOSS_RATIO - 100:.0f} % of the lowest loss"


def size_sentence(rows: Sequence[Row], metric: str) -> str:
    """Names the smallest config that is nearly the best, with its price and the best one's.

    Args:
        rows: The leaderboard, best first, as `make_rows` returns it.
        metric: The name of the sweep's metric.

    Returns:
        A sentence without its full stop; empty if the best config is the smallest.
    """
    smallest = smallest_near_best(rows, metric)
    if smallest is None:
        return ""
    best = rows[0]
    return (
        f"the smallest config {nearness(metric)}, on one seed, is "
        f"{trial_in_sentence(smallest.number)}: "
        f"{format_metric(smallest.value, metric)} with {format_price(smallest)}; "
        f"{trial_in_sentence(best.number)}, the best, has "
        f"{format_metric(best.value, metric)} with {format_price(best)}"
    )


def format_price(row: Row) -> str:
    """Formats a trial's parameters, multiply-adds and, if measured, seconds."""
    parts = [f"{row.parameters:,} parameters"]
    if row.multiply_adds is not None:
        parts.append(f"{format_count(row.multiply_adds)} multiply-adds")
    if row.seconds_per_1000_images is not None:
        parts.append(f"{format_seconds(row.seconds_per_1000_images)} for 1,000 images on one core")
    return format_list(parts)
