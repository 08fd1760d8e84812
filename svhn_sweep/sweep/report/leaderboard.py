"""Ranks the trials of a study and formats the leaderboard as text, CSV and Markdown."""

import csv
import html
import io
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import optuna
from optuna.trial import FrozenTrial, TrialState

from svhn_sweep.config.short_names import short_names
from svhn_sweep.sweep.plan.formatting import (
    format_count,
    format_items,
    format_metric,
    format_param,
    format_seconds,
)
from svhn_sweep.sweep.plan.plan import BASELINE_NUMBER, trial_name
from svhn_sweep.sweep.study.inference_times import InferenceTimes
from svhn_sweep.sweep.study.trial_values import direction_sign, finite_values
from svhn_sweep.trial_status import TrialStatus

MAX_CELL_CHARACTERS = 160  # in Markdown; MLflow cuts a description off at 8,000 characters


@dataclass(frozen=True, kw_only=True)
class Row:
    """Describes one trial; the fields are the columns of leaderboard.csv.

    Attributes:
        rank: From 1, the best; None unless the trial is complete.
        number: The trial's number in its study.
        name: "baseline" or "trial 7".
        state: The trial's status.
        value: The objective of a complete trial, the best finite value of a pruned one.
        delta: `value` minus the baseline's; None unless both trials are complete.
        best_epoch: The first epoch with the best value, from 1; None if `value` is.
        epochs: The last epoch with a value; 0 if there is none.
        seconds: Duration of the training; None if the trial has not recorded it.
        parameters: The number of the model's parameters; None if the trial has not recorded it.
        multiply_adds: Of the prediction of one image; None if the trial has not recorded it.
        seconds_per_1000_images: For predictions on one core; None unless it was measured.
        params: Hyperparameters by dotted key.
        reason: Why the trial ended this way; empty if there is nothing to explain.
    """

    rank: int | None = None
    number: int
    name: str
    state: TrialStatus
    value: float | None
    delta: float | None = None
    best_epoch: int | None
    epochs: int
    seconds: float | None
    parameters: int | None
    multiply_adds: int | None
    seconds_per_1000_images: float | None
    params: dict[str, object]
    reason: str

    @property
    def is_baseline(self) -> bool:
        """Whether the trial is the baseline's."""
        return self.number == BASELINE_NUMBER


def make_rows(study: optuna.Study) -> list[Row]:
    """Makes a row for each started trial, best first.

    Complete trials come first, then pruned ones, each by value; then diverged and failed ones; then
    those that still run. Ties are ordered by number.
    """
    sign = direction_sign(study)
    times = InferenceTimes.load(study).medians
    unranked = [
        _row(trial, sign, times.get(trial.number))
        for trial in study.get_trials(deepcopy=False)
        if trial.state != TrialState.WAITING
    ]
    unranked.sort(key=lambda row: _sort_key(row, sign))
    values = {row.number: row.value for row in unranked if row.state == TrialStatus.complete}
    ranks = {number: rank for rank, number in enumerate(values, start=1)}
    return [
        replace(row, rank=ranks.get(row.number), delta=_difference(values, row.number))
        for row in unranked
    ]


def _difference(values: Mapping[int, float | None], number: int) -> float | None:
    """Returns the value of a complete trial minus that of a complete baseline, else None."""
    value = values.get(number)
    baseline = values.get(BASELINE_NUMBER)
    return None if value is None or baseline is None else value - baseline


def _sort_key(row: Row, sign: int) -> tuple[int, bool, float, int]:
    groups = {
        TrialStatus.complete: 0,
        TrialStatus.pruned: 1,
        TrialStatus.running: 3,
        TrialStatus.interrupted: 3,
    }
    return groups.get(row.state, 2), row.value is None, sign * (row.value or 0.0), row.number


def param_keys(rows: Iterable[Row]) -> list[str]:
    """Returns each key that some trial has a value for, in the baseline's order."""
    by_number = sorted(rows, key=lambda row: row.number)
    return list(dict.fromkeys(key for row in by_number for key in row.params))


def to_cells(rows: Sequence[Row], metric: str, *, effort: bool = True) -> list[list[str]]:
    """Returns the leaderboard as text: the titles of the columns, then the cells of each row.

    Args:
        rows: The trials, best first.
        metric: The name of the sweep's metric.
        effort: Whether epochs, training time, and the model's size and speed have columns.
    """
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("rank", lambda row: str(row.rank or "")),
        ("trial", lambda row: row.name),
        ("state", lambda row: row.state),
        (metric, lambda row: format_metric(row.value, metric)),
        ("vs baseline", lambda row: format_metric(row.delta, metric, "+")),
    ]
    if effort:
        columns += [
            ("best epoch", lambda row: str(row.best_epoch or "")),
            ("epochs", lambda row: str(row.epochs)),
            ("training time", lambda row: _or_empty(row.seconds, "{:.0f} s".format)),
            ("parameters", lambda row: _or_empty(row.parameters, "{:,}".format)),
            ("multiply-adds", lambda row: _or_empty(row.multiply_adds, format_count)),
        ]
    if effort and any(row.seconds_per_1000_images is not None for row in rows):
        columns += [
            ("1,000 images", lambda row: _or_empty(row.seconds_per_1000_images, format_seconds))
        ]
    names = short_names(param_keys(rows), [title for title, _ in columns])
    columns += [(name, partial(_format_param, key)) for key, name in names.items()]
    if any(row.reason for row in rows):
        columns.append(("reason", lambda row: row.reason))
    titles = [title for title, _ in columns]
    return [titles, *([cell(row) for _, cell in columns] for row in rows)]


def _or_empty(value: float | None, form: Callable[[float], str]) -> str:
    return "" if value is None else form(value)


def _format_param(key: str, row: Row) -> str:
    return format_param(key, row.params[key]) if key in row.params else ""


def to_csv(rows: Sequence[Row]) -> str:
    """Returns the leaderboard as CSV, with unrounded numbers and a column for each dotted key."""
    columns = [field.name for field in fields(Row) if field.name != "params"]
    text = io.StringIO()
    writer = csv.DictWriter(
        text, [*columns, *param_keys(rows)], extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(vars(row) | row.params for row in rows)
    return text.getvalue()


def to_markdown(
    rows: Sequence[Row], metric: str, limit: int | None = None, *, effort: bool = True
) -> str:
    """Returns the leaderboard as a Markdown table for GitHub and MLflow.

    Args:
        rows: The trials, best first.
        metric: The name of the sweep's metric.
        limit: The number of rows to show; the baseline, in bold, is shown beyond it. None shows
            all rows.
        effort: As for `to_cells`.
    """
    header, *lines = to_cells(rows, metric, effort=effort)
    rules = ["---" if title in ("trial", "state", "reason") else "---:" for title in header]
    body = []
    for index, (row, line) in enumerate(zip(rows, lines, strict=True)):
        short = [textwrap.shorten(cell, MAX_CELL_CHARACTERS, placeholder=" ...") for cell in line]
        cells = [html.escape(cell, quote=False).replace("|", r"\|") for cell in short]
        if limit is None or index < limit or row.is_baseline:
            body.append([f"**{cell}**" if cell and row.is_baseline else cell for cell in cells])
    n_hidden = len(rows) - len(body)
    more = f"\nand {format_items(n_hidden, 'more trial')}\n" if n_hidden else ""
    return "".join(f"| {' | '.join(line)} |\n" for line in [header, rules, *body]) + more


def _row(trial: FrozenTrial, sign: int, seconds_per_1000_images: float | None) -> Row:
    status = _status(trial)
    values = finite_values(trial)
    best_epoch = min(values, key=lambda epoch: sign * values[epoch], default=None)
    value = None
    if status == TrialStatus.complete:
        value = trial.value
    elif status == TrialStatus.pruned and best_epoch is not None:
        value = values[best_epoch]
    return Row(
        number=trial.number,
        name=trial_name(trial.number),
        state=status,
        value=value,
        best_epoch=None if value is None else best_epoch,
        epochs=max(trial.intermediate_values, default=0),
        seconds=trial.user_attrs.get("seconds"),
        parameters=trial.user_attrs.get("parameters"),
        multiply_adds=trial.user_attrs.get("multiply_adds"),
        seconds_per_1000_images=seconds_per_1000_images,
        params=dict(trial.params),
        reason=str(trial.user_attrs.get("reason") or ""),
    )


def _status(trial: FrozenTrial) -> TrialStatus:
    """Returns the recorded status, or that of Optuna's state where the two contradict."""
    recorded = trial.user_attrs.get("state")
    if recorded == TrialStatus.diverged:
        return TrialStatus.diverged
    match trial.state:
        case TrialState.COMPLETE if trial.value is not None and math.isfinite(trial.value):
            return TrialStatus.complete
        case TrialState.PRUNED:
            return TrialStatus.pruned
        case TrialState.RUNNING if recorded == TrialStatus.interrupted:
            return TrialStatus.interrupted
        case TrialState.RUNNING:
            return TrialStatus.running
    if recorded in (None, TrialStatus.complete, TrialStatus.pruned):
        return TrialStatus.failed
    return TrialStatus(recorded)
