"""Tests the summary of a sweep, sentence by sentence."""

from dataclasses import replace
from pathlib import Path

import pytest
from studies import Studies, compare, fixed_seeds, sweeper, train

from svhn_sweep.sweep.report.summary import headline, study_metrics, summary_lines
from svhn_sweep.sweep.selection.champion import BASELINE, BEST, Candidate, Recommendation
from svhn_sweep.sweep.selection.verdict import Verdict
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.tracking.journal import Journal

BETTER = compare((0.80, 0.81, 0.79), (0.85, 0.86, 0.84), maximize=True)
SAME = compare((0.80, 0.81, 0.79), (0.81, 0.79, 0.80), maximize=True)


def search(studies: Studies, *values: float, direction: str = "maximize") -> Study:
    settings = replace(sweeper(direction=direction), confirm=replace(fixed_seeds(5), margin=0.005))
    study = studies.open(settings=settings)
    for value in values:
        train(study, value)
    return study


def candidate(study: Study, verdict: Verdict | None, number: int = 1) -> Candidate:
    return Candidate(
        study,
        number,
        {number: verdict} if verdict else {},
        {BASELINE: {43: Path("b")}, BEST: {43: Path("a")}},
    )


@pytest.mark.parametrize(
    ("direction", "values", "sentence"),
    [
        ("maximize", (), "No trial is complete."),
        ("maximize", (0.8, 0.7), "Nothing beat the baseline's 80.00% val/accuracy."),
        (
            "maximize",
            (0.8, 0.85),
            "In the search, trial 1 has 85.00% val/accuracy where the baseline has 80.00%: +5.00 "
            "points, on one seed and chosen "
            "as the best of 2.",
        ),
        (
            "minimize",
            (0.8, 0.75),
            "In the search, trial 1 has 0.7500 val/loss where the baseline has "
            "0.8000: -0.0500, on one seed and chosen "
            "as the best of 2.",
        ),
    ],
)
def test_the_search_is_summarized_in_one_sentence(
    studies: Studies, direction: str, values: tuple[float, ...], sentence: str
) -> None:
    assert summary_lines(search(studies, *values, direction=direction), None, None) == [sentence]


def test_a_search_that_ends_early_says_why(studies: Studies) -> None:
    study = studies.open(settings=sweeper(target_value=0.7))
    train(study, 0.8)
    assert summary_lines(study, None, None)[1:] == [
        "The search ended because hydra.sweeper.target_value=0.7 is reached after 1 of 10 trials."
    ]


def test_without_a_complete_baseline_the_best_trial_is_not_compared(studies: Studies) -> None:
    study = studies.open()
    train(study, 0.5, state="failed")
    train(study, 0.6)
    assert summary_lines(study, None, None) == [
        "The best is trial 1 with 60.00% val/accuracy; the baseline is not complete."
    ]


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (
            BETTER,
            "Over 3 fresh seeds trial 1 has 85.00% and the baseline "
            "80.00%: a difference of +5.00 points, "
            "+5.00 to +5.00 (95 % interval; seed by seed +5.00, +5.00, +5.00): better.",
        ),
        (
            SAME,
            "Over 3 fresh seeds trial 1 has 80.00% and the baseline "
            "80.00%: a difference of +0.00 points, "
            "-4.30 to +4.30 (95 % interval; seed by seed +1.00, -2.00, +1.00): undecided, the "
            "interval contains 0 and reaches beyond the margin of 0.50 points.",
        ),
        (
            None,
            "Nothing is confirmed: too few pairs of runs "
            "on fresh seeds are complete; the same "
            "command trains again what failed, but not what diverged.",
        ),
    ],
)
def test_the_confirmation_is_summarized_in_one_sentence(
    studies: Studies, verdict: Verdict | None, sentence: str
) -> None:
    study = search(studies, 0.8, 0.85)
    first, second = summary_lines(study, candidate(study, verdict), None)
    assert first == sentence
    assert second.startswith("In the search, trial 1 has 85.00%")


def test_an_earlier_confirmed_trial_is_listed_beside_the_best(studies: Studies) -> None:
    study = search(studies, 0.8, 0.85, 0.86)
    runs = {config: {43: Path(config)} for config in (BASELINE, BEST)}
    confirmed = Candidate(study, 1, {1: BETTER, 2: SAME}, runs)
    first, second, third = summary_lines(study, confirmed, None)
    assert first.startswith("Over 3 fresh seeds trial 1 has 85.00%")
    assert second.startswith("Over 3 fresh seeds trial 2 has 80.00%")
    assert ": undecided, the interval contains 0 and" in second
    assert third.startswith("In the search, trial 2 has 86.00%")


@pytest.mark.parametrize(
    ("verdict", "test", "reads", "recommended", "sentence"),
    [
        (
            BETTER,
            {BEST: [0.84, 0.86], BASELINE: [0.80, 0.82]},
            1,
            "trial 1",
            "On test, evaluated once: trial 1 has 85.00% (84.00% to 86.00%), "
            "the baseline has 81.00% (80.00% to 82.00%).",
        ),
        (
            SAME,
            {BASELINE: [0.80]},
            2,
            "the baseline",
            "On test, evaluated 2 times so far, once for each set of models chosen on validation: "
            "the baseline has 80.00%.",
        ),
    ],
)
def test_the_verdict_is_followed_by_the_recommended_config_its_model_and_its_test_accuracy(
    studies: Studies,
    verdict: Verdict,
    test: dict[str, list[float]],
    reads: int,
    recommended: str,
    sentence: str,
) -> None:
    study = search(studies, 0.8, 0.85)
    chosen = candidate(study, verdict)
    recommendation = Recommendation(chosen, test, reads, "registered as svhn-digits")
    assert summary_lines(study, chosen, recommendation)[1:4] == [
        f"This sweep recommends {recommended}.",
        "Registered as svhn-digits.",
        sentence,
    ]


def test_that_nothing_beat_the_baseline_comes_before_the_recommendation(studies: Studies) -> None:
    study = search(studies, 0.8, 0.7)
    chosen = candidate(study, None, number=0)
    recommendation = Recommendation(chosen, {BASELINE: [0.80]}, 1, "registered as svhn-digits")
    assert summary_lines(study, chosen, recommendation)[:2] == [
        "Nothing beat the baseline's 80.00% val/accuracy.",
        "This sweep recommends the baseline.",
    ]


def test_a_study_that_is_not_recommended_is_not_evaluated_on_test(studies: Studies) -> None:
    study = search(studies, 0.8, 0.85)
    candidates = {}
    for name, accuracy in (("one", 0.85), ("two", 0.865)):
        with Journal(studies.path / name) as journal:
            journal.start(name=name, experiment="svhn", store="", tags={})
            journal.log_metrics({"val/best_accuracy": accuracy})
        runs = {config: {43: studies.path / name} for config in (BASELINE, BEST)}
        candidates[name] = Candidate(study, 1, {1: SAME}, runs)
    recommendation = Recommendation(candidates["two"], {BASELINE: [0.8]}, 1, "")
    lines = summary_lines(study, candidates["one"], recommendation)
    assert lines[1:2] == [
        "Not evaluated on test, since study did better on validation: 86.50% against 85.00%."
    ]


def test_the_metrics_are_the_confirmed_difference_and_the_mean_test_accuracies(
    studies: Studies,
) -> None:
    study = search(studies, 0.8, 0.85)
    chosen = candidate(study, BETTER)
    recommendation = Recommendation(chosen, {BEST: [0.84, 0.86], BASELINE: [0.80]}, 1, "")
    assert study_metrics(chosen, recommendation) == pytest.approx(
        {
            "confirmed/difference": 0.05,
            "confirmed/low": BETTER.low,
            "confirmed/high": BETTER.high,
            "test/best_accuracy": 0.85,
            "test/baseline_accuracy": 0.80,
        }
    )
    assert study_metrics(None, None) == {}


@pytest.mark.parametrize(
    ("values", "verdict", "champion", "line"),
    [
        ((), None, None, "model1, 0 trials: no trial is complete"),
        ((0.8,), None, None, "model1, 1 trial: nothing beat the baseline"),
        ((0.8, 0.85), None, None, "model1, 2 trials: +5.00 points on one seed, not confirmed"),
        (
            (0.8, 0.85),
            SAME,
            "baseline, version 1",
            "model1, 2 trials: +0.00 points (-4.30 to +4.30), undecided; test 80.50%; "
            "champion: baseline, version 1",
        ),
        (
            (0.8, 0.85),
            BETTER,
            "stays version 3",
            "model1, 2 trials: +5.00 points (+5.00 to +5.00), better; test 85.00%; "
            "champion: stays version 3",
        ),
        (
            (0.8, 0.85),
            BETTER,
            "",  # the registry is unreachable
            "model1, 2 trials: +5.00 points (+5.00 to +5.00), better; test 85.00%",
        ),
    ],
)
def test_the_headline_has_the_result_in_one_line(
    studies: Studies,
    values: tuple[float, ...],
    verdict: Verdict | None,
    champion: str | None,
    line: str,
) -> None:
    study = search(studies, *values)
    chosen = candidate(study, verdict) if verdict else None
    recommendation = None
    if chosen is not None and champion is not None:
        test = {BEST: [0.84, 0.86], BASELINE: [0.80, 0.81]}
        recommendation = Recommendation(chosen, test, 1, "registered", champion)
    assert headline(study, chosen, recommendation) == line


def test_the_headline_of_a_study_without_a_complete_baseline(studies: Studies) -> None:
    study = studies.open()
    train(study, 0.5, state="failed")
    train(study, 0.6)
    assert headline(study, None, None) == (
        "model1, 2 trials: best 60.00%, the baseline is not complete"
    )
