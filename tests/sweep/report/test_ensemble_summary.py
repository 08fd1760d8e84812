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


def recommendation(studies: Studies, members: dict[int, int] | None, best: int) -> Recommendation:
    study = studies.open(settings=replace(sweeper(), confirm=fixed_seeds(2)))
    train(study, 0.8)
    candidate = Candidate(study, 0, {}, {BASELINE: {42: Path("b")}})
    ensemble = None
    if members is not None:
        judged = EnsembleResult(best, members, 512_345, 4200, 0.921, 0.9150, 100, 75, 0.9, 0.02)
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
    ("members", "best", "sentence"),
    [
        (None, 7, ""),
        (
            {7: 1, 12: 2, 31: 3},
            7,
            "an ensemble of trials 7, 12 (twice), 31 (3 times) with 512,345 parameters has 92.10% "
            "on the half of validation that did not select it: +0.60 points (-0.02 to +1.21, 95 % "
            "interval over 4,200 images) against trial 7, which was chosen on both halves: "
            "undecided; on test 93.20%, calibration error 0.012 where the baseline has "
            "0.035; not registered",
        ),
        (
            {7: 1},
            7,
            "no ensemble of the trials' models does better than trial 7 alone, on the half of "
            "validation that selects",
        ),
    ],
)
def test_the_ensemble_is_summarized_in_one_sentence(
    studies: Studies, members: dict[int, int] | None, best: int, sentence: str
) -> None:
    assert ensemble_result(recommendation(studies, members, best)) == sentence


def test_the_summary_ends_with_the_ensemble(studies: Studies) -> None:
    result = recommendation(studies, {0: 1, 1: 1}, 0)
    lines = summary_lines(result.candidate.study, result.candidate, result, None)
    assert lines[-1].startswith("An ensemble of trials 0, 1 with 512,345 parameters has 92.10%")
    assert "against the baseline, which was chosen on both halves" in lines[-1]


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
