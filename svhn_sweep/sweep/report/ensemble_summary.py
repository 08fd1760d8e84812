"""Summarizes the ensemble of a search in a sentence and as metrics."""

from statistics import mean

from svhn_sweep.sweep.plan.formatting import format_difference, format_limits
from svhn_sweep.sweep.plan.plan import trial_in_sentence
from svhn_sweep.sweep.selection.champion import BASELINE, Recommendation
from svhn_sweep.sweep.selection.ensemble import Ensemble
from svhn_sweep.sweep.selection.ensemble_run import ENSEMBLE, ensemble_metrics
from svhn_sweep.sweep.selection.race import VerdictOutcome

ACCURACY = "accuracy"
COMPARISONS = {
    VerdictOutcome.better: "better than {}",
    VerdictOutcome.worse: "worse than {}",
    VerdictOutcome.equivalent: "equivalent to {}",
    VerdictOutcome.undecided: "neither clearly better nor worse than {} (undecided)",
}


def ensemble_result(recommendation: Recommendation) -> str:
    """Returns the ensemble's result as a sentence; empty if the sweep selected none."""
    ensemble = recommendation.ensemble
    if ensemble is None:
        return ""
    if not ensemble.has_several_members:
        return (
            f"no ensemble of the trials' models does better than {ensemble.members} alone, on the "
            "half of validation that selects"
        )
    return (
        f"an ensemble of {ensemble.members} {_compared(ensemble)}; {_tested(recommendation)}; "
        f"{ensemble.result.parameters:,} parameters; {recommendation.ensemble_registration}"
    )


def calibration_and_ensemble_metrics(recommendation: Recommendation) -> dict[str, float]:
    """Returns the calibration errors on test, and the ensemble's scores on validation.

    Returns:
        Some of `test/best_calibration_error`, `test/baseline_calibration_error` and
        `test/ensemble_calibration_error`, means over seeds in 0..1, and `ensemble/...`.
    """
    metrics = {
        f"test/{config}_calibration_error": mean(errors)
        for config, errors in recommendation.calibration_errors.items()
    }
    ensemble = recommendation.ensemble
    if ensemble is None or not ensemble.has_several_members:
        return metrics
    return metrics | ensemble_metrics(ensemble)


def _compared(ensemble: Ensemble) -> str:
    """Its verdict against the best trial, the difference and its accuracy."""
    interval = ensemble.interval
    best = trial_in_sentence(ensemble.result.best)
    return (
        f"is {COMPARISONS[ensemble.outcome].format(best)}: "
        f"{format_difference(ensemble.difference, ACCURACY)} "
        f"({format_limits(interval.low, interval.high, ACCURACY)}, 95 % "
        f"interval over {ensemble.result.images:,} images), {ensemble.result.accuracy:.2%} on the "
        "half of validation that did not select it"
    )


def _tested(recommendation: Recommendation) -> str:
    """Its test accuracy, and its calibration error beside the recommended config's."""
    config = recommendation.candidate.recommended_config
    name = "the baseline" if config == BASELINE else "the best config"
    (accuracy,) = recommendation.test_accuracies[ENSEMBLE]
    errors = recommendation.calibration_errors
    return (
        f"on test {accuracy:.2%}, calibration error {mean(errors[ENSEMBLE]):.3f} where "
        f"{name} has {mean(errors[config]):.3f} (lower is better)"
    )
