"""Formats parameters and metrics for tables and messages."""

import math
from collections.abc import Sequence


def is_accuracy(metric: str) -> bool:
    """Returns whether a metric is an accuracy, 0..1, the higher the better; else it is a loss."""
    return metric.endswith("accuracy")


def format_items(count: int, noun: str) -> str:
    """Formats a count of things: `1 model`, `3 models`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def format_list(items: Sequence[object]) -> str:
    """Formats one or more things as in a sentence: `1`, `1 and 2`, `1, 2 and 3`."""
    *first, last = map(str, items)
    return f"{', '.join(first)} and {last}" if first else last


def format_metric(value: float | None, metric: str, sign: str = "") -> str:
    """Formats accuracies as 90.12%, other metrics as 0.9012, and None as "".

    Args:
        value: The value; accuracies in 0..1.
        metric: The name of the metric.
        sign: "+" for a difference; those of accuracies are in percentage points: +0.42.
    """
    if value is None:
        return ""
    if not is_accuracy(metric):
        return f"{value:{sign}z.4f}"
    return f"{100 * value:{sign}z.2f}{'' if sign else '%'}"


def format_difference(difference: float, metric: str) -> str:
    """Formats a difference with its unit: +0.42 points of accuracy, +0.0042 of other metrics."""
    unit = " points" if is_accuracy(metric) else ""
    return format_metric(difference, metric, "+") + unit


def format_distance(difference: float, metric: str) -> str:
    """Formats a difference without its sign: 0.42 points of accuracy, 0.0042 of other metrics."""
    return format_difference(abs(difference), metric).removeprefix("+")


def format_limits(low: float, high: float, metric: str) -> str:
    """Formats the ends of a difference's interval, for example as -0.47 to +1.03."""
    return f"{format_metric(low, metric, '+')} to {format_metric(high, metric, '+')}"


def format_param(key: str, value: object) -> str:
    """Formats learning rates as 1.23e-03, other floats with three digits."""
    form = ".2e" if key.endswith("learning_rate") else ".3g"
    return f"{value:{form}}" if isinstance(value, float) else str(value)


def format_count(count: float) -> str:
    """Formats a large count with a unit: 980.0 k, 4.2 M, 1.3 G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f}"


def format_seconds(seconds: float) -> str:
    """Formats a short duration with two digits: 0.24 s, 0.031 s, 12 s."""
    digits = max(0, 1 - math.floor(math.log10(max(seconds, 1e-4))))
    return f"{seconds:.{digits}f} s"
