"""What a sweep found, in words and as a table."""

from collections.abc import Sequence
from statistics import mean

from rich.console import Console
from rich.table import Table

from svhn_sweep.sweep.champion import Candidate, Recommendation
from svhn_sweep.sweep.confirmation import BASELINE, BEST, Verdict
from svhn_sweep.sweep.leaderboard import show
from svhn_sweep.sweep.study import Study, result

console = Console(highlight=False, soft_wrap=True)


def lines(study: Study, candidate: Candidate | None, recommended: Recommendation | None) -> list[str]:
    """Sentences for the study's page and description, most important first."""
    found = [_found(study)]
    if candidate is not None:
        found.append(_confirmed(candidate.verdict, study.settings.metric))
    if recommended is not None and recommended.candidate is candidate:
        found += [_tested(recommended), recommended.registration]
    return [sentence[0].upper() + sentence[1:] + "." for sentence in found if sentence]


def show_table(studies: Sequence[Study], candidates: Sequence[Candidate | None]) -> None:
    """The studies side by side."""
    metric = studies[0].settings.metric
    table = Table("study", f"baseline {metric}", "best", "difference", "confirmed difference", "verdict")
    for study, candidate in zip(studies, candidates, strict=True):
        baseline, best = study.baseline(), study.best()
        verdict = candidate.verdict if candidate is not None else None
        table.add_row(
            study.plan.name,
            show(baseline.value, metric) if baseline else "",
            f"{show(best.value, metric)} (trial {best.number})" if best else "",
            show(result(best) - result(baseline), metric, "+") if best and baseline else "",
            _interval(verdict, metric) if verdict else "",
            verdict.word if verdict else "",
        )
    console.print(table)


def show_all(
    studies: Sequence[Study], candidates: Sequence[Candidate | None], recommended: Recommendation | None
) -> None:
    """The end of a sweep in the terminal."""
    show_table(studies, candidates)
    for study, candidate in zip(studies, candidates, strict=True):
        for line in lines(study, candidate, recommended):
            console.print(f"{study.plan.name}: {line}", markup=False)
        best = study.best()
        if best is not None:
            command = (study.folder(best.number) / "command.txt").read_text().strip()
            console.print(f"The best trial again: {command}", markup=False)
        console.print(f"Leaderboard, figures, page: {study.plan.folder / 'report.html'}", markup=False)


def _found(study: Study) -> str:
    baseline, best, metric = study.baseline(), study.best(), study.settings.metric
    if best is None:
        return "no trial is complete"
    if baseline is None:
        return f"the best is trial {best.number} with {show(best.value, metric)} {metric}; the baseline is not complete"
    if best.number == 0:
        return f"nothing beat the baseline's {show(baseline.value, metric)} {metric}"
    difference = show(result(best) - result(baseline), metric, "+") + _points(metric)
    return (
        f"trial {best.number} has {show(best.value, metric)} {metric} where the baseline has "
        f"{show(baseline.value, metric)}: {difference}, on one seed and chosen as the best of {len(study.finished())}"
    )


def _confirmed(verdict: Verdict | None, metric: str) -> str:
    if verdict is None:
        return "nothing was confirmed: there was nothing to prove, or too few runs were complete"
    seeds = len(verdict.best)
    return (
        f"over {seeds} fresh seeds the best config has {show(mean(verdict.best), metric)} and the baseline "
        f"{show(mean(verdict.baseline), metric)}: a difference of {_interval(verdict, metric)} "
        f"(95 % interval): {verdict.word}"
    )


def _tested(recommended: Recommendation) -> str:
    parts = [
        f"{arm} {mean(accuracies):.2%} ({min(accuracies):.2%}..{max(accuracies):.2%})"
        for arm in (BEST, BASELINE)
        if (accuracies := recommended.test.get(arm))
    ]
    return f"on test, read once: {', '.join(parts)}; the champion is the {recommended.candidate.arm} config"


def _interval(verdict: Verdict, metric: str) -> str:
    low, high = show(verdict.low, metric, "+"), show(verdict.high, metric, "+")
    return f"{show(verdict.difference, metric, '+')}{_points(metric)}, {low} to {high}"


def _points(metric: str) -> str:
    return " points" if metric.endswith("accuracy") else ""
