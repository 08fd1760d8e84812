"""The trials of a study as rows, best first: CSV for programs, Markdown for people."""

import csv
import html
import io
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import optuna
from optuna.trial import FrozenTrial, TrialState

from svhn_sweep.sweep.plan.formatting import format_metric, format_param, short_names
from svhn_sweep.sweep.study.trial_values import direction_sign, finite_values

CELL = 160  # characters; MLflow cuts a description off at 8,000


@dataclass(frozen=True, kw_only=True)
class Row:
    """One trial."""

    rank: int | None = None  # from 1; None unless complete
    number: int
    name: str  # "baseline", "trial 7"
    state: (
        str  # complete, pruned, running, interrupted; where something went wrong diverged or failed
    )
    value: (
        float | None
    )  # the objective of a complete trial, the best intermediate value of a pruned one
    delta: float | None = None  # value minus the baseline's, where both are complete
    best_epoch: int | None  # from 1, the first with the best value; None where value is
    epochs: int  # trained
    seconds: float | None  # in its epochs
    params: dict[str, object]  # by dotted key
    reason: str  # why it diverged or failed, else empty


def rows(study: optuna.Study) -> list[Row]:
    """Started trials: complete ones best first, pruned ones likewise, diverged or failed,
    running; ties by number.
    """
    sign = direction_sign(study)
    places = {"complete": 0, "pruned": 1, "running": 3, "interrupted": 3}
    started = [
        trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING
    ]
    found = [_row(trial, sign) for trial in started]
    found.sort(
        key=lambda row: (
            places.get(row.state, 2),
            row.value is None,
            sign * (row.value or 0.0),
            row.number,
        )
    )
    complete = [
        (row, row.value) for row in found if row.state == "complete" and row.value is not None
    ]
    baseline = next((value for row, value in complete if row.number == 0), None)
    for place, (row, value) in enumerate(complete):
        found[place] = replace(
            row, rank=place + 1, delta=None if baseline is None else value - baseline
        )
    return found


def keys_of(rows: Iterable[Row]) -> list[str]:
    """Every param that some trial has, in the baseline's order."""
    return list(
        dict.fromkeys(key for row in sorted(rows, key=lambda row: row.number) for key in row.params)
    )


def table(rows: Sequence[Row], metric: str) -> list[list[str]]:
    """The leaderboard as people read it: a header, then the cells of each row."""
    fixed = [
        "rank",
        "trial",
        "state",
        metric,
        "vs baseline",
        "best epoch",
        "epochs",
        "training time",
    ]
    names = short_names(keys_of(rows), fixed)
    why = ["reason"] if any(row.reason for row in rows) else []
    lines = [[*fixed, *names.values(), *why]]
    for row in rows:
        result = [
            str(row.rank or ""),
            row.name,
            row.state,
            format_metric(row.value, metric),
            format_metric(row.delta, metric, "+"),
        ]
        effort = [
            str(row.best_epoch or ""),
            str(row.epochs),
            "" if row.seconds is None else f"{row.seconds:.0f} s",
        ]
        params = [format_param(key, row.params[key]) if key in row.params else "" for key in names]
        lines.append([*result, *effort, *params, *[row.reason for _ in why]])
    return lines


def to_csv(rows: Sequence[Row]) -> str:
    """Every digit, one column for each param under its dotted key, empty where there is no
    value.
    """
    columns = [field.name for field in fields(Row) if field.name != "params"]
    text = io.StringIO()
    writer = csv.DictWriter(
        text, [*columns, *keys_of(rows)], extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(vars(row) | row.params for row in rows)
    return text.getvalue()


def to_markdown(rows: Sequence[Row], metric: str, limit: int | None = None) -> str:
    """A table that GitHub and MLflow render; the baseline is in bold, and in it even beyond the
    limit.
    """
    header, *lines = table(rows, metric)
    marks = ["---" if title in ("trial", "state", "reason") else "---:" for title in header]
    shown = []
    for place, (row, line) in enumerate(zip(rows, lines, strict=True)):
        short = [
            textwrap.shorten(cell, CELL, placeholder=" ...") for cell in line
        ]  # CSV has all of it
        cells = [html.escape(cell, quote=False).replace("|", r"\|") for cell in short]
        if limit is None or place < limit or row.number == 0:
            shown.append([f"**{cell}**" if cell and row.number == 0 else cell for cell in cells])
    left = len(rows) - len(shown)
    more = f"\nand {left} more trial{'s' if left > 1 else ''}\n" if left else ""
    return "".join(f"| {' | '.join(line)} |\n" for line in [header, marks, *shown]) + more


def _row(trial: FrozenTrial, sign: int) -> Row:
    told = str(trial.user_attrs.get("state"))
    state = str(trial.state.name.lower())
    by_epoch = finite_values(trial)
    objective = math.nan if trial.value is None else trial.value
    if (
        state == "fail"
        or told == "diverged"
        or (state == "complete" and not math.isfinite(objective))
    ):
        state = "failed" if told in ("None", "complete", "pruned") else told
    elif state == "running" and told == "interrupted":
        state = told
    best_epoch = min(by_epoch, key=lambda epoch: sign * by_epoch[epoch], default=None)
    value = by_epoch[best_epoch] if state == "pruned" and best_epoch is not None else None
    value = objective if state == "complete" else value
    return Row(
        number=trial.number,
        name=f"trial {trial.number}" if trial.number else "baseline",
        state=state,
        value=value,
        best_epoch=None if value is None else best_epoch,
        epochs=max(trial.intermediate_values, default=0),
        seconds=trial.user_attrs.get("seconds"),
        params=dict(trial.params),
        reason=str(trial.user_attrs.get("reason") or ""),
    )
