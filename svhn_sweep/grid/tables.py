"""Formats the comparison of a grid's configs for the terminal, Markdown and CSV."""

import csv
import html
import io
from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from svhn_sweep.grid.comparison import Row
from svhn_sweep.grid.results import RunResult
from svhn_sweep.sweep.plan.formatting import format_items, format_metric
from svhn_sweep.sweep.selection.repeated_intervals import Interval

METRIC = "val/best_accuracy"
COLUMNS = ["config", "seeds", METRIC, "95 % interval", "vs first", "95 % interval", "verdict"]


def to_cells(rows: Sequence[Row]) -> list[list[str]]:
    """Returns the cells of each row, one for each of `COLUMNS`."""
    return [
        [
            row.config,
            f"{row.seeds} ({row.diverged} diverged)" if row.diverged else str(row.seeds),
            _mean(row),
            _limits(row.interval, ""),
            format_metric(row.difference, METRIC, "+"),
            _limits(row.difference_interval, "+"),
            row.outcome or "",
        ]
        for row in rows
    ]


def to_terminal(rows: Sequence[Row]) -> Table:
    """Returns the table that the command prints; each interval is below its mean."""
    table = Table("config", show_lines=True)
    for title in ("seeds", f"{METRIC}\n(95 % interval)", "vs first, points\n(95 % interval)"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for config, seeds, accuracy, limits, difference, its_limits, verdict in to_cells(rows):
        table.add_row(
            Text(config),
            seeds,
            _two_lines(accuracy, limits),
            _two_lines(difference, its_limits),
            verdict,
        )
    return table


def to_markdown(rows: Sequence[Row], limit: int | None = None) -> str:
    """Returns a Markdown table for GitHub and MLflow.

    Args:
        rows: The configs.
        limit: The number of rows to show: the first one and those with the best means. None shows
            all rows.
    """
    rules = ["---", *["---:"] * (len(COLUMNS) - 2), "---"]
    chosen = rows if limit is None else _best(rows, limit)
    lines = [COLUMNS, rules, *([_escape(cell) for cell in cells] for cells in to_cells(chosen))]
    n_hidden = len(rows) - len(chosen)
    more = f"\nand {format_items(n_hidden, 'more config')}\n" if n_hidden else ""
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + more


def to_csv(rows: Sequence[Row], values: Mapping[str, Mapping[str, str]]) -> str:
    """Returns the comparison as CSV, with unrounded numbers.

    Args:
        rows: The configs.
        values: The overrides that vary, by config and key; each key has a column.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    numbers = ["seeds", "diverged", "mean", "deviation", "low", "high"]
    differences = ["common_seeds", "difference", "difference_low", "difference_high", "verdict"]
    writer.writerow(["config", *values[rows[0].config], *numbers, *differences])
    for row in rows:
        writer.writerow(
            [
                row.config,
                *values[row.config].values(),
                row.seeds,
                row.diverged,
                row.mean,
                row.deviation,
                *_ends(row.interval),
                row.common_seeds,
                row.difference,
                *_ends(row.difference_interval),
                row.outcome or "",
            ]
        )
    return text.getvalue()


def incomplete_lines(results: Iterable[RunResult]) -> list[str]:
    """Returns a line for each run that is not complete: its config, its seed, and why."""
    return [
        f"{result.config} · seed {result.plan.seed}: {result.status or 'not started'}"
        + (f", {result.reason}" if result.reason else "")
        for result in results
        if not result.is_complete
    ]


def _best(rows: Sequence[Row], limit: int) -> list[Row]:
    """Returns the first row and those with the best means, in their order."""
    others = sorted(rows[1:], key=lambda row: -1 if row.mean is None else row.mean, reverse=True)
    chosen = [*rows[:1], *others[: limit - 1]]
    return [row for row in rows if row in chosen]


def _mean(row: Row) -> str:
    spread = "" if row.deviation is None else f" ± {100 * row.deviation:.2f}"
    return format_metric(row.mean, METRIC) + spread


def _limits(interval: Interval | None, sign: str) -> str:
    if interval is None:
        return ""
    low, high = (
        format_metric(end, METRIC, sign).removesuffix("%") for end in (interval.low, interval.high)
    )
    return f"{low} to {high}"


def _two_lines(mean: str, limits: str) -> str:
    return f"{mean}\n({limits})" if limits else mean


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)


def _escape(cell: str) -> str:
    return html.escape(cell, quote=False).replace("|", r"\|")
