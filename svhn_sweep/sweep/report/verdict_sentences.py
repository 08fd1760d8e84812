"""Says in sentences what the confirmation of a study found."""

from statistics import mean

from svhn_sweep.sweep.plan.formatting import format_difference, format_limits, format_metric
from svhn_sweep.sweep.plan.plan import BASELINE_NUMBER
from svhn_sweep.sweep.selection.champion import Candidate
from svhn_sweep.sweep.selection.race import VerdictOutcome
from svhn_sweep.sweep.selection.verdict import Verdict
from svhn_sweep.sweep.study.study import Study


def confirmation_sentences(study: Study, candidate: Candidate) -> list[str]:
    """Returns the verdicts on the best trial and on the winner, and who left the race.

    Args:
        study: The search.
        candidate: What the study recommends.
    """
    best = study.best()
    recommended = {best.number, candidate.trial_number} if best is not None else set()
    numbers = sorted(recommended - {BASELINE_NUMBER})
    verdicts = [
        _verdict_sentence(n, candidate.verdicts[n], study.settings.metric)
        for n in numbers
        if n in candidate.verdicts
    ]
    if candidate.race is not None and candidate.race.left:
        left = candidate.race.left.items()
        exits = ", ".join(f"trial {number} after {n_pairs} seeds" for number, n_pairs in left)
        verdicts.append(f"out of the race were {exits}")
    if verdicts or not numbers or study.settings.confirm is None:
        return verdicts
    return [
        "nothing is confirmed: too few pairs of runs on fresh seeds are "
        "complete; the same command trains again what failed, but not what diverged"
    ]


def _verdict_sentence(number: int, verdict: Verdict, metric: str) -> str:
    seeds = len(verdict.best)
    pairs = [
        format_metric(best - baseline, metric, "+")
        for best, baseline in zip(verdict.best, verdict.baseline, strict=True)
    ]
    return (
        f"over {seeds} fresh seeds trial {number} has "
        f"{format_metric(mean(verdict.best), metric)} and the baseline "
        f"{format_metric(mean(verdict.baseline), metric)}: a "
        f"difference of {_format_interval(verdict, metric)} "
        f"(95 % interval; seed by seed {', '.join(pairs)}): {_explain(verdict.outcome)}"
    )


def _explain(outcome: VerdictOutcome) -> str:
    match outcome:
        case VerdictOutcome.equivalent:
            return "equivalent, the difference is within the margin"
        case VerdictOutcome.undecided:
            return "undecided, the interval contains 0 and exceeds the margin"
        case _:
            return outcome.value


def _format_interval(verdict: Verdict, metric: str) -> str:
    limits = format_limits(verdict.low, verdict.high, metric)
    return f"{format_difference(verdict.difference, metric)}, {limits}"
