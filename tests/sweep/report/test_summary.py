"""What a sweep says it found, sentence by sentence."""

from dataclasses import replace
from pathlib import Path

import pytest
from studies import Studies, sweeper, train

from svhn_sweep.sweep.plan.settings import ConfirmConfig
from svhn_sweep.sweep.report.summary import study_metrics, summary_lines
from svhn_sweep.sweep.selection.champion import BASELINE, BEST, Candidate, Recommendation
from svhn_sweep.sweep.selection.confirmation import Verdict, compare
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.tracking.journal import Journal

BETTER = compare((0.80, 0.81, 0.79), (0.85, 0.86, 0.84), maximize=True)
SAME = compare((0.80, 0.81, 0.79), (0.81, 0.79, 0.80), maximize=True)


def searched(studies: Studies, *values: float, direction: str = "maximize") -> Study:
    settings = replace(sweeper(direction=direction), confirm=ConfirmConfig(5))
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
            "Trial 1 has 85.00% val/accuracy where the baseline has 80.00%: +5.00 "
            "points, on one seed and chosen "
            "as the best of 2.",
        ),
        (
            "minimize",
            (0.8, 0.75),
            "Trial 1 has 0.7500 val/loss where the baseline has "
            "0.8000: -0.0500, on one seed and chosen "
            "as the best of 2.",
        ),
    ],
)
def test_what_the_search_found(
    studies: Studies, direction: str, values: tuple[float, ...], sentence: str
) -> None:
    assert summary_lines(searched(studies, *values, direction=direction), None, None, None) == [
        sentence
    ]


def test_without_its_baseline_a_best_trial_is_compared_with_nothing(studies: Studies) -> None:
    study = studies.open()
    train(study, 0.5, state="failed")
    train(study, 0.6)
    assert summary_lines(study, None, None, None) == [
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
            "-4.30 to +4.30 (95 % interval; seed by seed +1.00, -2.00, +1.00): indistinguishable.",
        ),
        (
            None,
            "Nothing is confirmed: fewer than two of 5 pairs of runs "
            "on fresh seeds are complete; the same "
            "command trains again what failed, but not what diverged.",
        ),
    ],
)
def test_what_the_confirmation_found(
    studies: Studies, verdict: Verdict | None, sentence: str
) -> None:
    study = searched(studies, 0.8, 0.85)
    assert summary_lines(study, candidate(study, verdict), None, None)[1:] == [sentence]


def test_who_proved_itself_is_named_beside_the_best(studies: Studies) -> None:
    study = searched(studies, 0.8, 0.85, 0.86)
    both = Candidate(
        study, 1, {1: BETTER, 2: SAME}, {arm: {43: Path(arm)} for arm in (BASELINE, BEST)}
    )
    first, second, third = summary_lines(study, both, None, None)
    assert first.startswith("Trial 2 has 86.00%")
    assert second.startswith("Over 3 fresh seeds trial 1 has 85.00%")
    assert third.startswith("Over 3 fresh seeds trial 2 has 80.00%")
    assert third.endswith("indistinguishable.")


@pytest.mark.parametrize(
    ("verdict", "test", "reads", "sentence"),
    [
        (
            BETTER,
            {BEST: [0.84, 0.86], BASELINE: [0.80, 0.82]},
            1,
            "On test, read once: best 85.00% (84.00% to 86.00%), "
            "baseline 81.00% (80.00% to 82.00%); this sweep "
            "recommends trial 1.",
        ),
        (
            SAME,
            {BASELINE: [0.80]},
            2,
            "On test, read 2 times so far, once for each choice: baseline 80.00%; this "
            "sweep recommends the baseline.",
        ),
    ],
)
def test_the_judgement_on_test(
    studies: Studies, verdict: Verdict, test: dict[str, list[float]], reads: int, sentence: str
) -> None:
    study = searched(studies, 0.8, 0.85)
    chosen = candidate(study, verdict)
    recommended = Recommendation(chosen, test, reads, "registered as svhn-digits")
    assert summary_lines(study, chosen, recommended, None)[2:] == [
        sentence,
        "Registered as svhn-digits.",
    ]


def test_a_study_that_another_one_surpassed_says_why_it_is_not_evaluated(studies: Studies) -> None:
    study, runs = searched(studies, 0.8, 0.85), {}
    for name, accuracy in (("one", 0.85), ("two", 0.865)):
        with Journal(studies.path / name) as journal:
            journal.start(name=name, experiment="svhn", store="", tags={})
            journal.log_metrics({"val/best_accuracy": accuracy})
        runs[name] = Candidate(
            study, 1, {1: SAME}, {arm: {43: studies.path / name} for arm in (BASELINE, BEST)}
        )
    found = summary_lines(
        study, runs["one"], Recommendation(runs["two"], {BASELINE: [0.8]}, 1, ""), None
    )
    assert found[2:] == [
        "Not evaluated on test, since study did better on validation: 86.50% against 85.00%."
    ]


def test_the_numbers_are_those_of_the_sentences(studies: Studies) -> None:
    study = searched(studies, 0.8, 0.85)
    chosen = candidate(study, BETTER)
    found = study_metrics(
        chosen, Recommendation(chosen, {BEST: [0.84, 0.86], BASELINE: [0.80]}, 1, "")
    )
    assert found == pytest.approx(
        {
            "confirmed/difference": 0.05,
            "confirmed/low": BETTER.low,
            "confirmed/high": BETTER.high,
            "test/best_accuracy": 0.85,
            "test/baseline_accuracy": 0.80,
        }
    )
    assert study_metrics(None, None) == {}
