"""How parameters and metrics are written for people."""

from collections import Counter
from collections.abc import Sequence


def short_names(keys: Sequence[str], taken: Sequence[str] = ()) -> dict[str, str]:
    """For each dotted key the shortest ending that is nobody else's: conv1 for
    model.filters.conv1.
    """
    endings = {
        key: [".".join(key.split(".")[-length:]) for length in range(1, key.count(".") + 2)]
        for key in keys
    }
    uses = Counter(ending for each in [*endings.values(), taken] for ending in each)
    return {
        key: next((ending for ending in endings[key] if uses[ending] == 1), key) for key in keys
    }


def format_metric(value: float | None, metric: str, sign: str = "") -> str:
    """Accuracies as 90.12%, differences of accuracies (sign "+") in points as +0.42, anything
    else as 0.9012.
    """
    if value is None or not metric.endswith("accuracy"):
        return "" if value is None else f"{value:{sign}z.4f}"
    return f"{100 * value:{sign}z.2f}{'' if sign else '%'}"


def format_difference(difference: float, metric: str) -> str:
    """The same of a difference, with its unit: +0.42 points of accuracy, +0.0042 of anything
    else.
    """
    return format_metric(difference, metric, "+") + (
        " points" if metric.endswith("accuracy") else ""
    )


def format_param(key: str, value: object) -> str:
    """Learning rates as 1.23e-03, other floats with three digits."""
    form = ".2e" if key.endswith("learning_rate") else ".3g"
    return f"{value:{form}}" if isinstance(value, float) else str(value)
