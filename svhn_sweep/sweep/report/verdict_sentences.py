"""Describes in sentences what the confirmation of a study found."""

from statistics import mean

from svhn_sweep.sweep.plan.formatting import (
    format_difference,
    format_distance,
    format_limits,
    format_metric,
    is_accuracy,
)
from svhn_sweep.sweep.plan.plan import BASELINE_NUMBER
from svhn_sweep.sweep.selection.champion import Candidate
from svhn_sweep.sweep.selection.race import Race, VerdictOutcome
from svhn_sweep.sweep.selection.verdict import Verdict
from svhn_sweep.sweep.study.study import Study


def confirmation_sentences(study: Study, candidate: Candidate) -> list[str]:
    """Returns the verdicts on the best trial and on the winner, and who left the race.

    Args:
        study: The search.
        candidate: What the study recommends.
    """
    confirm = study.settings.confirm
    if confirm is None:
        return []
    best = study.best()
    recommended = {best.number, candidate.trial_number} if best is not None else set()
    numbers = sorted(recommended - {BASELINE_NUMBER})
    verdicts = [
        _verdict_sentence(n, candidate.verdicts[n], study.settings.metric, confirm.margin)
        for n in numbers
        if n in candidate.verdicts
    ]
    if candidate.race is not None and candidate.race.left:
        left = candidate.race.left.items()
        exits = ", ".join(f"trial {number} after {n_pairs} seeds" for number, n_pairs in left)
        verdicts.append(f"out of the race were {exits}")
    if verdicts or not numbers:
        return verdicts
    return [
        "nothing is confirmed: too few pairs of runs on fresh seeds are "
        "complete; the same command trains again what failed, but not what diverged"
    ]


def race_state(race: Race, metric: str) -> str:
    """Returns how far a race's leader is from the baseline; the best candidate may be behind it.

    Args:
        race: A race with a leader, which has at least one look.
        metric: The name of its metric.

    Returns:
        For example `trial 7, the best candidate, is 0.62 points ahead of the baseline (-0.10 to
        +1.34)`.
    """
    assert race.leader is not None
    look = race.looks[race.leader][-1]
    is_ahead = look.difference >= 0 if is_accuracy(metric) else look.difference <= 0
    side = "ahead of" if is_ahead else "behind"
    return (
        f"trial {race.leader}, the best candidate, is {format_distance(look.difference, metric)} "
        f"{side} the baseline ({format_limits(look.low, look.high, metric)})"
    )


def _verdict_sentence(number: int, verdict: Verdict, metric: str, margin: float) -> str:
    seeds = len(verdict.best)
    pairs = [
        format_metric(best - baseline, metric, "+")
        for best, baseline in zip(verdict.best, verdict.baseline, strict=True)
    ]
    limits = format_limits(verdict.low, verdict.high, metric)
    return (
        f"over {seeds} fresh seeds trial {number} has "
        f"{format_metric(mean(verdict.best), metric)} and the baseline "
        f"{format_metric(mean(verdict.baseline), metric)}: a "
        f"difference of {format_difference(verdict.difference, metric)}, {limits} "
        f"(95 % interval; seed by seed {', '.join(pairs)}): "
        f"{_explain(verdict.outcome, margin, metric)}"
    )


def _explain(outcome: VerdictOutcome, margin: float, metric: str) -> str:
    size = format_distance(margin, metric)
    match outcome:
        case VerdictOutcome.equivalent:
            return f"equivalent, the interval lies within the margin of {size}"
        case VerdictOutcome.undecided:
            beyond = f" and reaches beyond the margin of {size}" if margin else ""
            return f"undecided, the interval contains 0{beyond}"
        case _:
            return outcome.value
