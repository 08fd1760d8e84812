"""Formats parameters and metrics for tables and messages."""


def format_metric(value: float | None, metric: str, sign: str = "") -> str:
    """Formats accuracies as 90.12%, other metrics as 0.9012, and None as "".

    Args:
        value: The value; accuracies in 0..1.
        metric: The name of the metric.
        sign: "+" for a difference; those of accuracies are in percentage points: +0.42.
    """
    if value is None:
        return ""
    if not metric.endswith("accuracy"):
        return f"{value:{sign}z.4f}"
    return f"{100 * value:{sign}z.2f}{'' if sign else '%'}"


def format_difference(difference: float, metric: str) -> str:
    """Formats a difference with its unit: +0.42 points of accuracy, +0.0042 of other metrics."""
    unit = " points" if metric.endswith("accuracy") else ""
    return format_metric(difference, metric, "+") + unit


def format_param(key: str, value: object) -> str:
    """Formats learning rates as 1.23e-03, other floats with three digits."""
    form = ".2e" if key.endswith("learning_rate") else ".3g"
    return f"{value:{form}}" if isinstance(value, float) else str(value)
