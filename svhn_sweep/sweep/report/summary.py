"""Summarizes the result of a sweep in sentences, as metrics and as a table."""

from collections.abc import Sequence
from statistics import mean

from rich.console import Console
from rich.table import Table
from rich.text import Text

from svhn_sweep.sweep.plan.formatting import (
    format_difference,
    format_items,
    format_limits,
    format_metric,
)
from svhn_sweep.sweep.plan.plan import BASELINE_NUMBER
from svhn_sweep.sweep.report.ensemble_summary import (
    calibration_and_ensemble_metrics,
    ensemble_result,
)
from svhn_sweep.sweep.report.leaderboard import make_rows
from svhn_sweep.sweep.report.pareto import size_sentence
from svhn_sweep.sweep.report.verdict_sentences import confirmation_sentences
from svhn_sweep.sweep.selection.champion import BASELINE, BEST, Candidate, Recommendation
from svhn_sweep.sweep.selection.confusion_differences import ConfusionMatrices
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.study.trial_values import objective_value
from svhn_sweep.tracking import tracking_uri, ui_links

COLUMNS_WITHOUT_TERMINAL = 120

console = Console(highlight=False, soft_wrap=True, markup=False)
if not console.is_terminal:
    console.width = COLUMNS_WITHOUT_TERMINAL


def summary_lines(
    study: Study,
    candidate: Candidate | None,
    recommendation: Recommendation | None,
    confusions: ConfusionMatrices | None,
) -> list[str]:
    """Returns sentences for the report and the description in MLflow, most important first.

    Args:
        study: The search.
        candidate: What the study recommends; None if that is nothing, or not selected yet.
        recommendation: What the whole sweep recommends; None if that is nothing, or not yet known.
        confusions: Of the best config and the baseline; None if they are the same.
    """
    sentences = [_search_result(study)]
    if study.stop_reason:
        sentences.append(f"the search ended because {study.stop_reason}")
    if candidate is not None:
        sentences += confirmation_sentences(study, candidate)
    if recommendation is not None and recommendation.candidate is candidate:
        sentences += [_test_result(recommendation), recommendation.registration]
        sentences.append(ensemble_result(recommendation))
    elif recommendation is not None and candidate is not None and candidate.has_model:
        sentences.append(_not_tested(candidate, recommendation.candidate))
    rows = make_rows(study.optuna_study)
    sentences.append(size_sentence(rows, study.settings.metric))
    if confusions is not None:
        sentences.append(confusions.sentence())
    return [sentence[0].upper() + sentence[1:] + "." for sentence in sentences if sentence]


def headline(
    study: Study, candidate: Candidate | None, recommendation: Recommendation | None
) -> str:
    """Returns the result of a study in one line, to be pasted into a report.

    Args:
        study: The search.
        candidate: What the study recommends; None if that is nothing, or not selected yet.
        recommendation: What the whole sweep recommends; None if that is nothing, or not yet known.

    Returns:
        For example `model2, 24 trials: +0.28 points (-0.47 to +1.03), undecided; test
        0.895; champion: baseline, version 1`.
    """
    parts = [_verdict(study, candidate)]
    if recommendation is not None and recommendation.candidate is candidate:
        if accuracies := recommendation.test_accuracies.get(candidate.recommended_config):
            parts.append(f"test {mean(accuracies):.3f}")
        if recommendation.champion:
            parts.append(f"champion: {recommendation.champion}")
    trials = format_items(len(study.finished()), "trial")
    return f"{study.plan.config.model.name}, {trials}: {'; '.join(parts)}"


def study_metrics(
    candidate: Candidate | None, recommendation: Recommendation | None
) -> dict[str, float]:
    """Returns the confirmed difference, its interval, mean test scores, and the ensemble's scores.

    Args:
        candidate: What a study recommends; None if that is nothing, or not selected yet.
        recommendation: What the whole sweep recommends; its test accuracies are left out unless it
            is this candidate.

    Returns:
        Some of `confirmed/difference`, `confirmed/low`, `confirmed/high`, `test/best_accuracy`,
        `test/baseline_accuracy`, `test/ensemble_accuracy` (accuracies in 0..1) and of
        `calibration_and_ensemble_metrics`.
    """
    metrics: dict[str, float] = {}
    if candidate is not None and (verdict := candidate.verdict) is not None:
        metrics |= {
            f"confirmed/{name}": getattr(verdict, name) for name in ("difference", "low", "high")
        }
    if recommendation is not None and recommendation.candidate is candidate:
        metrics |= {
            f"test/{config}_accuracy": mean(accuracies)
            for config, accuracies in recommendation.test_accuracies.items()
        }
        metrics |= calibration_and_ensemble_metrics(recommendation)
    return metrics


def print_table(studies: Sequence[Study], candidates: Sequence[Candidate | None]) -> None:
    """Prints a table with a row for each study.

    Args:
        studies: The searches.
        candidates: What each study recommends; None if that is nothing.
    """
    metric = studies[0].settings.metric
    table = Table(
        "study", "baseline", "best", "", "confirmed", "verdict", title=metric, title_justify="left"
    )
    for study, candidate in zip(studies, candidates, strict=True):
        name = Text(study.plan.name, no_wrap=True)
        cells = [*_search_cells(study, metric), *_verdict_cells(study, candidate, metric)]
        table.add_row(name, *cells)
    console.print(table)


def print_lines(studies: Sequence[Study], lines: Sequence[Sequence[str]]) -> None:
    """Prints the `summary_lines` of each study, its report and pages, and the `headline` last.

    Args:
        studies: The searches.
        lines: The headline, then the summary lines of each study.
    """
    for study, (_, *sentences) in zip(studies, lines, strict=True):
        for line in sentences:
            console.print(f"{study.plan.name}: {line}")
        folder = study.plan.parent_run_dir
        command = folder / "best_command.txt"
        if study.best() is not None and command.exists():
            console.print(f"The best config again: {command.read_text().strip()}")
        if (folder / "report.html").exists():
            console.print(f"Leaderboard, figures, page: {folder / 'report.html'}")
    pages = ui_links.addresses(study.plan.parent_run_dir for study in studies)
    if pages:
        is_server = tracking_uri.is_server()
        ui = tracking_uri.address() if is_server else "python -m svhn_sweep ui"
        console.print(f"In MLflow: {ui}")
    for name, page in pages.items():
        console.print(f"{name}: {page}")
    for first, *_ in lines:
        console.print(first)


def _verdict(study: Study, candidate: Candidate | None) -> str:
    """Returns the verdict with its interval, or why there is none."""
    metric = study.settings.metric
    if candidate is not None and (verdict := candidate.verdict) is not None:
        limits = format_limits(verdict.low, verdict.high, metric)
        return f"{format_difference(verdict.difference, metric)} ({limits}), {verdict.outcome}"
    best = study.best()
    baseline = study.baseline()
    if best is None:
        return "no trial is complete"
    if baseline is None:
        return f"best {format_metric(best.value, metric)}, the baseline is not complete"
    if best.number == baseline.number:
        return "nothing beat the baseline"
    difference = objective_value(best) - objective_value(baseline)
    return f"{format_difference(difference, metric)} on one seed, not confirmed"


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
    if best.number == BASELINE_NUMBER:
        return f"nothing beat the baseline's {format_metric(baseline.value, metric)} {metric}"
    difference = objective_value(best) - objective_value(baseline)
    return (
        f"trial {best.number} has "
        f"{format_metric(best.value, metric)} {metric} where the baseline has "
        f"{format_metric(baseline.value, metric)}: "
        f"{format_difference(difference, metric)}, on one seed and chosen "
        f"as the best of {len(study.finished())}"
    )


def _test_result(recommendation: Recommendation) -> str:
    parts = []
    for config in (BEST, BASELINE):
        if accuracies := recommendation.test_accuracies.get(config):
            part = f"{config} {mean(accuracies):.2%}"
            if len(accuracies) > 1:
                part += f" ({min(accuracies):.2%} to {max(accuracies):.2%})"
            parts.append(part)
    times = (
        "once"
        if recommendation.test_evaluations == 1
        else f"{recommendation.test_evaluations} times so far, once for each choice"
    )
    name = recommendation.candidate.recommended_name
    choice = f"the {name}" if name == BASELINE else name
    return f"on test, evaluated {times}: {', '.join(parts)}; this sweep recommends {choice}"


def _not_tested(candidate: Candidate, other: Candidate) -> str:
    return (
        f"not evaluated on test, since {other.study.plan.name} did better on "
        f"validation: {other.validation_accuracy:.2%} against "
        f"{candidate.validation_accuracy:.2%}"
    )
