"""The sentence and the metrics with which a sweep reports an ensemble."""

from dataclasses import replace
from pathlib import Path

import pytest
from studies import Studies, fixed_seeds, sweeper, train

from svhn_sweep.sweep.report.ensemble_summary import ensemble_result
from svhn_sweep.sweep.report.summary import study_metrics, summary_lines
from svhn_sweep.sweep.selection.champion import BASELINE, BEST, Candidate, Recommendation
from svhn_sweep.sweep.selection.ensemble import Ensemble
from svhn_sweep.sweep.workers.evaluation_requests import EnsembleResult


def recommendation(
    studies: Studies, members: dict[int, int] | None, best: int, gained: int = 100
) -> Recommendation:
    """`gained`: images that only the ensemble predicts correctly; only the best trial does 75."""
    confirm = replace(fixed_seeds(2), margin=0.01)
    study = studies.open(settings=replace(sweeper(), confirm=confirm))
    train(study, 0.8)
    candidate = Candidate(study, 0, {}, {BASELINE: {42: Path("b")}})
    ensemble = None
    if members is not None:
        judged = EnsembleResult(best, members, 512_345, 4200, 0.921, 0.9150, gained, 75, 0.9, 0.02)
        ensemble = Ensemble(study, judged)
    return Recommendation(
        candidate,
        {BASELINE: [0.9, 0.91], BEST: [0.92, 0.93], "ensemble": [0.932]},
        1,
        "registered",
        calibration_errors={BASELINE: [0.03, 0.04], BEST: [0.05, 0.05], "ensemble": [0.012]},
        ensemble=ensemble,
        ensemble_registration="not registered",
    )


@pytest.mark.parametrize(
    ("members", "gained", "sentence"),
    [
        (None, 100, ""),
        (
            {7: 1, 12: 2, 31: 3},
            100,
            "an ensemble of trials 7, 12 (twice), 31 (3 times) is neither clearly better nor worse "
            "than trial 7 (undecided): +0.60 points (-0.02 to +1.21, 95 % interval over 4,200 "
            "images), 92.10% on the half of validation that did not select it; on test 93.20%, "
            "calibration error 0.012 where the baseline has 0.035 (lower is better); "
            "512,345 parameters; not registered",
        ),
        (
            {7: 1, 12: 1},
            180,
            "an ensemble of trials 7, 12 is better than trial 7: +2.50 points",
        ),
        ({7: 1, 12: 1}, 75, "an ensemble of trials 7, 12 is equivalent to trial 7: +0.00 points"),
        ({7: 1, 12: 1}, 10, "an ensemble of trials 7, 12 is worse than trial 7: -1.55 points"),
        (
            {7: 1},
            100,
            "no ensemble of the trials' models does better than trial 7 alone, on the half of "
            "validation that selects",
        ),
    ],
)
def test_the_ensemble_is_summarized_in_one_sentence(
    studies: Studies, members: dict[int, int] | None, gained: int, sentence: str
) -> None:
    shown = ensemble_result(recommendation(studies, members, 7, gained))
    assert shown.startswith(sentence)
    assert bool(shown) is bool(sentence)


def test_the_summary_has_the_ensemble(studies: Studies) -> None:
    result = recommendation(studies, {0: 1, 1: 1}, 0)
    lines = summary_lines(result.candidate.study, result.candidate, result)
    assert lines[-1].startswith("An ensemble of trials 0, 1 is neither clearly better nor worse")
    assert "than the baseline (undecided)" in lines[-1]


def test_its_scores_are_metrics_of_the_study(studies: Studies) -> None:
    result = recommendation(studies, {0: 1, 1: 1}, 0)
    metrics = study_metrics(result.candidate, result)
    assert metrics["test/ensemble_accuracy"] == 0.932
    assert metrics["test/ensemble_calibration_error"] == 0.012
    assert metrics["test/baseline_calibration_error"] == pytest.approx(0.035)
    assert metrics["ensemble/accuracy"] == 0.921
    assert metrics["ensemble/difference"] == pytest.approx(25 / 4200)
    assert metrics["ensemble/low"] < 0 < metrics["ensemble/high"]
    single = recommendation(studies, {0: 1}, 0)
    assert not any(key.startswith("ensemble/") for key in study_metrics(single.candidate, single))
