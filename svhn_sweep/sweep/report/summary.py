"""What a sweep found, in words and as a table."""

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


def lines(
    study: Study,
    candidate: Candidate | None,
    recommended: Recommendation | None,
    both: ConfusionMatrices | None,
) -> list[str]:
    """Sentences for the study's page and description, most important first; `both`: what its two
    arms confuse.
    """
    found = [_found(study)]
    if candidate is not None:
        found += _confirmed(study, candidate)
    if recommended is not None and recommended.candidate is candidate:
        found += [_tested(recommended), recommended.registration]
    elif recommended is not None and candidate is not None and candidate.has_model:
        found.append(_passed_over(candidate, recommended.candidate))
    if both is not None:
        found.append(both.sentence())
    return [sentence[0].upper() + sentence[1:] + "." for sentence in found if sentence]


def numbers(candidate: Candidate | None, recommended: Recommendation | None) -> dict[str, float]:
    """The same for MLflow: the confirmed difference with its interval, and test accuracies,
    means over seeds.
    """
    found: dict[str, float] = {}
    if candidate is not None and (verdict := candidate.verdict) is not None:
        found |= {
            f"confirmed/{name}": getattr(verdict, name) for name in ("difference", "low", "high")
        }
    if recommended is not None and recommended.candidate is candidate:
        found |= {
            f"test/{config}_accuracy": mean(accuracies)
            for config, accuracies in recommended.test_accuracies.items()
        }
    return found


def show_table(studies: Sequence[Study], candidates: Sequence[Candidate | None]) -> None:
    """The studies side by side."""
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
            _word(study, verdict),
        )
    console.print(table)


def show_lines(studies: Sequence[Study], told: Sequence[Sequence[str]]) -> None:
    """What was found in each study, and where all of it is; `told`: the `lines` of each."""
    for study, sentences in zip(studies, told, strict=True):
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
        where = (
            tracking_uri.address()
            if tracking_uri.scheme() in tracking_uri.SERVERS
            else "python -m svhn_sweep ui"
        )
        console.print(f"In MLflow: {where}")
    for name, page in pages.items():
        console.print(f"{name}: {page}")


def _found(study: Study) -> str:
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


def _confirmed(study: Study, candidate: Candidate) -> list[str]:
    """The verdict on the search's best trial, and on one that proved itself before."""
    best = study.best()
    asked = sorted({best.number, candidate.trial_number} - {0}) if best is not None else []
    told = [
        _verdict(n, candidate.verdicts[n], study.settings.metric)
        for n in asked
        if n in candidate.verdicts
    ]
    if told or not asked or study.settings.confirm is None:
        return told
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


def _tested(recommended: Recommendation) -> str:
    parts = []
    for arm in (BEST, BASELINE):
        if accuracies := recommended.test_accuracies.get(arm):
            ends = (
                f" ({min(accuracies):.2%} to {max(accuracies):.2%})" if len(accuracies) > 1 else ""
            )
            parts.append(f"{arm} {mean(accuracies):.2%}{ends}")
    times = (
        "once"
        if recommended.test_reads == 1
        else f"{recommended.test_reads} times so far, once for each choice"
    )
    arm = (
        "the baseline"
        if recommended.candidate.recommended_config == BASELINE
        else f"trial {recommended.candidate.trial_number}"
    )
    return f"on test, read {times}: {', '.join(parts)}; this sweep recommends {arm}"


def _passed_over(candidate: Candidate, other: Candidate) -> str:
    return (
        f"not judged on test, since {other.study.plan.name} did better on "
        f"validation: {other.validation_accuracy:.2%} against "
        f"{candidate.validation_accuracy:.2%}"
    )


def _word(study: Study, verdict: Verdict | None) -> str:
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
