"""The result of a sweep in sentences, as metrics and as a table."""

import sys
from collections.abc import Sequence
from statistics import mean

from rich.console import Console
from rich.table import Table
from rich.text import Text

from svhn_sweep.sweep.plan.formatting import format_difference, format_metric
from svhn_sweep.sweep.selection.champion import BASELINE, BEST, Candidate, Recommendation
from svhn_sweep.sweep.selection.confirmation import Verdict
from svhn_sweep.sweep.selection.confusion_differences import ConfusionMatrices
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.study.trial_values import objective_value
from svhn_sweep.tracking import tracking_uri, ui_links

WIDTH = 120  # columns where there is no terminal to ask

console = Console(
    highlight=False, soft_wrap=True, markup=False, width=None if sys.stdout.isatty() else WIDTH
)


def summary_lines(
    study: Study,
    candidate: Candidate | None,
    recommended: Recommendation | None,
    confusions: ConfusionMatrices | None,
) -> list[str]:
    """Returns sentences for the report and the description in MLflow, most important first.

    Args:
        study: the search.
        candidate: its best config with the confirmation, if there is one.
        recommended: by the whole sweep, if it got that far.
        confusions: of the best config and the baseline, if they differ.
    """
    sentences = [_search_result(study)]
    if candidate is not None:
        sentences += _confirmation_results(study, candidate)
    if recommended is not None and recommended.candidate is candidate:
        sentences += [_test_result(recommended), recommended.registration]
    elif recommended is not None and candidate is not None and candidate.has_model:
        sentences.append(_not_tested(candidate, recommended.candidate))
    if confusions is not None:
        sentences.append(confusions.sentence())
    return [sentence[0].upper() + sentence[1:] + "." for sentence in sentences if sentence]


def study_metrics(
    candidate: Candidate | None, recommended: Recommendation | None
) -> dict[str, float]:
    """Returns the confirmed difference, its interval, and mean test accuracies."""
    metrics: dict[str, float] = {}
    if candidate is not None and (verdict := candidate.verdict) is not None:
        metrics |= {
            f"confirmed/{name}": getattr(verdict, name) for name in ("difference", "low", "high")
        }
    if recommended is not None and recommended.candidate is candidate:
        metrics |= {
            f"test/{config}_accuracy": mean(accuracies)
            for config, accuracies in recommended.test_accuracies.items()
        }
    return metrics


def print_table(studies: Sequence[Study], candidates: Sequence[Candidate | None]) -> None:
    """Prints the studies side by side."""
    metric = studies[0].settings.metric
    table = Table(
        "study", "baseline", "best", "", "confirmed", "verdict", title=metric, title_justify="left"
    )
    for study, candidate in zip(studies, candidates, strict=True):
        baseline = study.baseline()
        best = study.best()
        verdict = candidate.verdict if candidate is not None else None
        table.add_row(
            Text(study.plan.name, no_wrap=True),
            format_metric(baseline.value, metric) if baseline else "",
            f"{format_metric(best.value, metric)} (trial {best.number})" if best else "",
            format_metric(objective_value(best) - objective_value(baseline), metric, "+")
            if best and baseline
            else "",
            f"trial {candidate.trial_number}: {format_metric(verdict.difference, metric, '+')} "
            f"({_ends(verdict, metric)})"
            if candidate is not None and verdict is not None
            else "",
            _outcome(study, verdict),
        )
    console.print(table)


def print_lines(studies: Sequence[Study], lines: Sequence[Sequence[str]]) -> None:
    """Prints the `summary_lines` of each study, and where its report is."""
    for study, sentences in zip(studies, lines, strict=True):
        for line in sentences:
            console.print(f"{study.plan.name}: {line}")
        command = study.plan.parent_run_dir / "best_command.txt"
        if study.best() is not None and command.exists():
            console.print(f"The best config again: {command.read_text().strip()}")
        if (study.plan.parent_run_dir / "report.html").exists():
            console.print(
                f"Leaderboard, figures, page: {study.plan.parent_run_dir / 'report.html'}"
            )
    pages = ui_links.addresses(study.plan.parent_run_dir for study in studies)
    if pages:
        is_server = tracking_uri.is_server()
        console.print(
            f"In MLflow: {tracking_uri.address() if is_server else 'python -m svhn_sweep ui'}"
        )
    for name, page in pages.items():
        console.print(f"{name}: {page}")


def _search_result(study: Study) -> str:
    baseline = study.baseline()
    best = study.best()
    metric = study.settings.metric
    if best is None:
        return "no trial is complete"
    if baseline is None:
        return (
            f"the best is trial {best.number} with {format_metric(best.value, metric)} "
            f"{metric}; the baseline is not complete"
        )
    if best.number == 0:
        return f"nothing beat the baseline's {format_metric(baseline.value, metric)} {metric}"
    difference = objective_value(best) - objective_value(baseline)
    return (
        f"trial {best.number} has "
        f"{format_metric(best.value, metric)} {metric} where the baseline has "
        f"{format_metric(baseline.value, metric)}: "
        f"{format_difference(difference, metric)}, on one seed and chosen "
        f"as the best of {len(study.finished())}"
    )


def _confirmation_results(study: Study, candidate: Candidate) -> list[str]:
    """The verdict on the best trial, and on one that was confirmed before."""
    best = study.best()
    numbers = sorted({best.number, candidate.trial_number} - {0}) if best is not None else []
    verdicts = [
        _verdict(n, candidate.verdicts[n], study.settings.metric)
        for n in numbers
        if n in candidate.verdicts
    ]
    if verdicts or not numbers or study.settings.confirm is None:
        return verdicts
    return [
        f"nothing is confirmed: fewer than two of {study.settings.confirm.seeds} "
        "pairs of runs on fresh seeds are "
        "complete; the same command trains again what failed, but not what diverged"
    ]


def _verdict(number: int, verdict: Verdict, metric: str) -> str:
    seeds = len(verdict.best)
    pairs = [
        format_metric(best - baseline, metric, "+")
        for best, baseline in zip(verdict.best, verdict.baseline, strict=True)
    ]
    return (
        f"over {seeds} fresh seeds trial {number} has "
        f"{format_metric(mean(verdict.best), metric)} and the baseline "
        f"{format_metric(mean(verdict.baseline), metric)}: a "
        f"difference of {_interval(verdict, metric)} "
        f"(95 % interval; seed by seed {', '.join(pairs)}): {verdict.outcome}"
    )


def _test_result(recommended: Recommendation) -> str:
    parts = []
    for config in (BEST, BASELINE):
        if accuracies := recommended.test_accuracies.get(config):
            ends = (
                f" ({min(accuracies):.2%} to {max(accuracies):.2%})" if len(accuracies) > 1 else ""
            )
            parts.append(f"{config} {mean(accuracies):.2%}{ends}")
    times = (
        "once"
        if recommended.test_reads == 1
        else f"{recommended.test_reads} times so far, once for each choice"
    )
    config = (
        "the baseline"
        if recommended.candidate.recommended_config == BASELINE
        else f"trial {recommended.candidate.trial_number}"
    )
    return f"on test, read {times}: {', '.join(parts)}; this sweep recommends {config}"


def _not_tested(candidate: Candidate, other: Candidate) -> str:
    return (
        f"not evaluated on test, since {other.study.plan.name} did better on "
        f"validation: {other.validation_accuracy:.2%} against "
        f"{candidate.validation_accuracy:.2%}"
    )


def _outcome(study: Study, verdict: Verdict | None) -> str:
    if verdict is not None:
        return verdict.outcome
    best = study.best()
    return "nothing beat the baseline" if best is not None and best.number == 0 else "not confirmed"


def _interval(verdict: Verdict, metric: str) -> str:
    return f"{format_difference(verdict.difference, metric)}, {_ends(verdict, metric)}"


def _ends(verdict: Verdict, metric: str) -> str:
    return (
        f"{format_metric(verdict.low, metric, '+')} to {format_metric(verdict.high, metric, '+')}"
    )
