"""Summarizes the result of a sweep in sentences and as metrics."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from svhn_sweep.sweep.plan.formatting import (
    format_difference,
    format_items,
    format_limits,
    format_metric,
)
from svhn_sweep.sweep.plan.plan import BASELINE_NUMBER, trial_in_sentence
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


@dataclass(frozen=True)
class Summary:
    """What a sweep prints at its end about a study.

    Attributes:
        headline: The result in one line.
        lines: The result in sentences, most important first.
        commands: Commands that train configs again by what these are, the recommended one first.
    """

    headline: str
    lines: Sequence[str]
    commands: Mapping[str, str]


def summary_lines(
    study: Study, candidate: Candidate | None, recommendation: Recommendation | None
) -> list[str]:
    """Returns the verdict, the recommendation and the search in sentences.

    Args:
        study: The search.
        candidate: What the study recommends; None if that is nothing, or not selected yet.
        recommendation: What the whole sweep recommends; None if that is nothing, or not yet known.
    """
    search = [_search_result(study)]
    if study.stop_reason:
        search.append(f"the search ended because {study.stop_reason}")
    verdicts = [] if candidate is None else confirmation_sentences(study, candidate)
    results = [] if candidate is None else _recommendation_sentences(candidate, recommendation)
    size = size_sentence(make_rows(study.optuna_study), study.settings.metric)
    if verdicts:
        return _to_lines([*verdicts, *results, *search, size])
    return _to_lines([*search, *results, size])


def confusion_lines(confusions: ConfusionMatrices | None) -> list[str]:
    """Returns which digits are confused more or less often as a sentence for the report.

    Args:
        confusions: Of the best config and the baseline; None if they are the same.
    """
    return [] if confusions is None else _to_lines([confusions.sentence()])


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
        89.50%; champion: baseline, version 1`.
    """
    parts = [_verdict(study, candidate)]
    if recommendation is not None and recommendation.candidate is candidate:
        if accuracies := recommendation.test_accuracies.get(candidate.recommended_config):
            parts.append(f"test {mean(accuracies):.2%}")
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
        f"in the search, trial {best.number} has "
        f"{format_metric(best.value, metric)} {metric} where the baseline has "
        f"{format_metric(baseline.value, metric)}: "
        f"{format_difference(difference, metric)}, on one seed and chosen "
        f"as the best of {len(study.finished())}"
    )


def _to_lines(sentences: Iterable[str]) -> list[str]:
    return [sentence[0].upper() + sentence[1:] + "." for sentence in sentences if sentence]


def _recommendation_sentences(
    candidate: Candidate, recommendation: Recommendation | None
) -> list[str]:
    """Returns what the sweep recommends, its test accuracy, the registered model, the ensemble."""
    if recommendation is None:
        return []
    if recommendation.candidate is not candidate:
        return [_not_tested(candidate, recommendation.candidate)] if candidate.has_model else []
    return [
        f"this sweep recommends {trial_in_sentence(candidate.recommended_number)}",
        recommendation.registration,
        _test_result(recommendation),
        ensemble_result(recommendation),
    ]


def _test_result(recommendation: Recommendation) -> str:
    parts = []
    for config, number in (
        (BEST, recommendation.candidate.trial_number),
        (BASELINE, BASELINE_NUMBER),
    ):
        if accuracies := recommendation.test_accuracies.get(config):
            part = f"{trial_in_sentence(number)} has {mean(accuracies):.2%}"
            if len(accuracies) > 1:
                part += f" ({min(accuracies):.2%} to {max(accuracies):.2%})"
            parts.append(part)
    n_evaluations = recommendation.test_evaluations
    times = (
        "once"
        if n_evaluations == 1
        else f"{n_evaluations} times so far, once for each set of models chosen on validation"
    )
    return f"on test, evaluated {times}: {', '.join(parts)}"


def _not_tested(candidate: Candidate, other: Candidate) -> str:
    return (
        f"not evaluated on test, since {other.study.plan.name} did better on "
        f"validation: {other.validation_accuracy:.2%} against "
        f"{candidate.validation_accuracy:.2%}"
    )
