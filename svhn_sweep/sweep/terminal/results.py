"""Prints the results of a sweep."""

from collections.abc import Sequence

from rich.table import Column, Table

from svhn_sweep.console import console, print_text
from svhn_sweep.sweep.plan.formatting import format_limits, format_metric, is_accuracy
from svhn_sweep.sweep.plan.plan import BASELINE_NUMBER
from svhn_sweep.sweep.report.summary import Summary
from svhn_sweep.sweep.selection.champion import Candidate
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.study.trial_values import objective_value
from svhn_sweep.tracking import tracking_uri, ui_links

COLUMNS_WITHOUT_TERMINAL = 120


def print_table(studies: Sequence[Study], candidates: Sequence[Candidate | None]) -> None:
    """Prints a table with a row for each study.

    Args:
        studies: The searches.
        candidates: What each study recommends; None if that is nothing.
    """
    metric = studies[0].settings.metric
    is_single = len(studies) == 1
    title = f"{studies[0].plan.name}: {metric}" if is_single else metric
    difference = "points" if is_accuracy(metric) else "difference"
    columns = [] if is_single else [Column("study", no_wrap=True)]
    headers = ("baseline", "best", difference, "confirmed", "verdict")
    table = Table(*columns, *headers, title=title, title_justify="left")
    for study, candidate in zip(studies, candidates, strict=True):
        name = [] if is_single else [study.plan.name]
        cells = [*_search_cells(study, metric), *_verdict_cells(study, candidate, metric)]
        table.add_row(*name, *cells)
    console.print(table, width=None if console.is_terminal else COLUMNS_WITHOUT_TERMINAL)


def print_summaries(studies: Sequence[Study], summaries: Sequence[Summary]) -> None:
    """Prints each study's sentences, then commands, reports and the leaderboard, headlines last.

    Args:
        studies: The searches.
        summaries: What is printed about each.
    """
    prefixes = [f"{study.plan.name}: " if len(studies) > 1 else "" for study in studies]
    for prefix, summary in zip(prefixes, summaries, strict=True):
        for line in summary.lines:
            print_text(f"{prefix}{line}")
    console.print()
    for prefix, summary in zip(prefixes, summaries, strict=True):
        for name, command in list(summary.commands.items())[:1]:
            console.print(f"{prefix}{name}:\n{command}")
    for prefix, study in zip(prefixes, studies, strict=True):
        report = study.plan.parent_run_dir / "report.html"
        if report.exists():
            console.print(f"{prefix}Report: {report}")
    _print_leaderboards(studies)
    console.print()
    for summary in summaries:
        print_text(summary.headline)


def _print_leaderboards(studies: Sequence[Study]) -> None:
    """Prints how MLflow's UI is started, and the addresses of the leaderboards in it."""
    pages = ui_links.addresses(study.plan.parent_run_dir for study in studies)
    boards = {name: page for name, page in pages.items() if name.startswith("Leaderboard")}
    if boards:
        is_server = tracking_uri.is_server()
        ui = tracking_uri.address() if is_server else "python -m svhn_sweep ui"
        console.print(f"In MLflow: {ui}")
    for name, page in boards.items():
        console.print(f"{name}: {page}")


def _search_cells(study: Study, metric: str) -> list[str]:
    """Returns the baseline's value, the best value and their difference, as far as complete."""
    baseline = study.baseline()
    best = study.best()
    difference = None
    if best is not None and baseline is not None:
        difference = objective_value(best) - objective_value(baseline)
    return [
        "" if baseline is None else format_metric(baseline.value, metric),
        "" if best is None else f"{format_metric(best.value, metric)} (trial {best.number})",
        format_metric(difference, metric, "+"),
    ]


def _verdict_cells(study: Study, candidate: Candidate | None, metric: str) -> list[str]:
    """Returns the confirmed difference with its interval, and the verdict."""
    if candidate is None or candidate.verdict is None:
        best = study.best()
        is_baseline = best is not None and best.number == BASELINE_NUMBER
        return ["", "nothing beat the baseline" if is_baseline else "not confirmed"]
    verdict = candidate.verdict
    difference = format_metric(verdict.difference, metric, "+")
    limits = format_limits(verdict.low, verdict.high, metric)
    return [f"trial {candidate.trial_number}: {difference} ({limits})", verdict.outcome]
