"""Whether the best is better than the baseline: the interval beside SciPy's, and the study
behind it.
"""

from dataclasses import replace

import numpy as np
import pytest
from optuna.trial import TrialState
from scipy import stats
from studies import BASELINE, Studies, sweeper, train, write

from svhn_sweep.config.schema import MAX_SEED
from svhn_sweep.sweep.selection import confirmation
from svhn_sweep.sweep.selection.confirmation import (
    ConfirmationPlan,
    Verdict,
    compare,
    proven,
    verdict,
    verdicts,
)
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.trial_status import TrialStatus


def searched(studies: Studies, *values: float, direction: str = "maximize") -> Study:
    """A study whose search is over; the first value is the baseline's."""
    study = studies.open(settings=sweeper(direction=direction))
    for value in values:
        train(study, value)
    return study


def planned(study: Study, seeds: int) -> ConfirmationPlan:
    plan = confirmation.plan(study, seeds)
    assert plan is not None
    return plan


def confirmed(studies: Studies, study: Study, seeds: int) -> Study:
    """As the driver opens it, beside its study."""
    return Study(
        planned(study, seeds), study.settings, studies.opened[-1], study.threads, prune=False
    )


def seeds_of(study: Study) -> list[int]:
    """Those of the best arm, by number of the trial."""
    return [trial.params["seed"] for trial in study.trials() if trial.params["trial"] != 0]


# the interval

VERDICTS = [
    # baseline, best, word where more is better, where less is
    ((0.80, 0.81, 0.79, 0.80, 0.82), (0.85, 0.86, 0.84, 0.87, 0.86), "better", "worse"),
    ((0.85, 0.86, 0.84, 0.87, 0.86), (0.80, 0.81, 0.79, 0.80, 0.82), "worse", "better"),
    (
        (0.80, 0.81, 0.79, 0.80, 0.82),
        (0.81, 0.79, 0.80, 0.82, 0.80),
        "indistinguishable",
        "indistinguishable",
    ),
    ((0.80, 0.81), (0.81, 0.83), "indistinguishable", "indistinguishable"),  # two seeds say little
    ((0.80, 0.81), (0.90, 0.91001), "better", "worse"),
    ((0.2, 0.9, 0.5), (0.3, 1.01, 0.6), "better", "worse"),  # it is the pairs that count
    ((2.5, 1.25), (2.75, 1.375), "indistinguishable", "indistinguishable"),
]


@pytest.mark.parametrize(("baseline", "best", "more", "less"), VERDICTS)
def test_the_interval_is_that_of_scipys_paired_t_test(
    baseline: tuple[float, ...], best: tuple[float, ...], more: str, less: str
) -> None:
    found = compare(baseline, best, maximize=True)
    interval = stats.ttest_rel(best, baseline).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.difference == pytest.approx(np.mean(best) - np.mean(baseline))
    assert (found.baseline, found.best, found.word) == (baseline, best, more)
    assert compare(baseline, best, maximize=False) == replace(found, word=less)


@pytest.mark.parametrize(
    ("baseline", "best", "difference", "more", "less"),
    [
        ((0.25, 0.5), (0.5, 0.75), 0.25, "better", "worse"),
        ((0.5, 0.75, 0.25), (0.25, 0.5, 0.0), -0.25, "worse", "better"),
        ((0.5, 0.75), (0.5, 0.75), 0.0, "indistinguishable", "indistinguishable"),
    ],
)
def test_equal_differences_leave_no_doubt(
    baseline: tuple[float, ...], best: tuple[float, ...], difference: float, more: str, less: str
) -> None:
    for maximize, word in ((True, more), (False, less)):
        assert compare(baseline, best, maximize=maximize) == Verdict(
            baseline, best, difference, difference, word
        )


# what there is to confirm


@pytest.mark.parametrize(
    ("direction", "values", "best"),
    [
        ("maximize", [0.5, 0.6, 0.4], 1),
        ("minimize", [0.5, 0.6, 0.4], 2),
        ("maximize", [0.5, 0.4], None),
        ("maximize", [0.5, 0.5], None),
        ("minimize", [0.5, 0.6], None),
        ("maximize", [0.5], None),
        ("maximize", [], None),
    ],
)
def test_the_best_has_to_prove_itself_unless_it_is_the_baseline(
    studies: Studies, direction: str, values: list[float], best: int | None
) -> None:
    plan = confirmation.plan(searched(studies, *values, direction=direction), 2)
    assert ([each["trial"] for each in plan.enqueued_trials] if plan else None) == (
        None if best is None else [0, best] * 2
    )


@pytest.mark.parametrize("state", ["diverged", "failed"])
def test_there_is_nothing_to_beat_without_a_baseline(studies: Studies, state: str) -> None:
    study = studies.open()
    train(study, 0.5, state=state)
    train(study, 0.6)
    assert confirmation.plan(study, 2) is None


def test_both_arms_are_trained_on_fresh_seeds(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6)
    plan = planned(study, 3)
    assert [(each["trial"], each["seed"]) for each in plan.enqueued_trials] == [
        (number, seed) for seed in (43, 44, 45) for number in (0, 1)
    ]
    assert (plan.name, plan.folder) == ("study-confirm", study.plan.folder / "confirm")
    assert plan.spelt(plan.enqueued_trials[0]) == [
        *study.plan.spelt(BASELINE),
        "seed=43",
        "tracking.log_model=true",
    ]
    best = study.trials()[1].params
    assert plan.spelt(plan.enqueued_trials[1]) == [
        *study.plan.spelt(best),
        "seed=43",
        "tracking.log_model=true",
    ]
    assert (plan.title(0, plan.enqueued_trials[0]), plan.describe(1, plan.enqueued_trials[1])) == (
        "baseline seed 43",
        "trial 1, seed 43",
    )


@pytest.mark.parametrize("seed", [0, 42, MAX_SEED - 1, MAX_SEED])
def test_the_studys_own_seed_is_not_fresh(studies: Studies, seed: int) -> None:
    study = searched(studies, 0.5, 0.6)
    study.plan = replace(study.plan, config=replace(study.plan.config, seed=seed))
    seeds = {each["seed"] for each in planned(study, 1000).enqueued_trials}
    assert len(seeds) == 1000
    assert seed not in seeds
    assert all(type(each) is int and 0 <= each <= MAX_SEED for each in seeds)


def test_a_run_is_shown_beside_the_searchs(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6)
    again = confirmed(studies, study, 2)
    assignment = again.next()
    assert assignment is not None
    run = again.run_info(assignment)
    assert (run.name, run.tags["role"]) == ("baseline seed 43", "confirmation")
    assert (again.folder(0) / run.parent).resolve() == study.plan.folder.resolve()


# the study over arm and seed


def test_every_arm_is_trained_on_every_seed_and_no_more(studies: Studies) -> None:
    again = confirmed(studies, searched(studies, 0.5, 0.6), 3)
    for _ in range(6):
        train(again, 0.5)
    assert again.next() is None
    assert [tuple(trial.params.values()) for trial in again.trials()] == [
        (number, seed) for seed in (43, 44, 45) for number in (0, 1)
    ]


def test_what_was_interrupted_goes_on(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6)
    again = confirmed(studies, study, 2)
    train(again, 0.5)
    interrupted = again.next()
    study = studies.open(study.plan, study.settings)
    again = confirmed(studies, study, 2)
    assert again.next() == interrupted
    assert [again.next() is not None for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("done", [0, 1, 4])
def test_more_seeds_keep_the_trials_that_are_there(studies: Studies, done: int) -> None:
    study = searched(studies, 0.5, 0.6)
    again = confirmed(studies, study, 2)
    before = [train(again, 0.5).params for _ in range(done)]
    study = studies.open(study.plan, study.settings)
    again = confirmed(studies, study, 3)
    for _ in range(6 - done):
        train(again, 0.7)
    assert again.next() is None
    assert [trial.params for trial in again.trials()][:done] == before
    assert seeds_of(again) == [43, 44, 45]
    assert len(again.trials()) == 6


def test_fewer_seeds_take_nothing_away(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6)
    again = confirmed(studies, study, 3)
    for value in (0.5, 0.7) * 3:
        train(again, value)
    fewer = confirmed(studies, study, 2)
    assert fewer.next() is None
    found = verdict(fewer, 1)
    assert found is not None
    assert found.best == (0.7, 0.7, 0.7)


def test_another_best_is_confirmed_beside_the_same_baselines(studies: Studies) -> None:
    study = studies.open(studies.plan(n_trials=3))
    train(study, 0.5)
    train(study, 0.6)
    first = confirmed(studies, study, 2)
    for value in (0.50, 0.60, 0.51, 0.61):
        train(first, value)
    train(study, 0.7)
    again = confirmed(studies, study, 2)
    for value in (0.70, 0.71):
        train(again, value)
    assert again.next() is None
    assert verdict(again, 2) == compare((0.50, 0.51), (0.70, 0.71), maximize=True)
    assert verdict(again, 1) == compare((0.50, 0.51), (0.60, 0.61), maximize=True)


@pytest.mark.parametrize("seed", [99_999, 20_240_601, MAX_SEED])
def test_large_seeds_are_as_different_as_small_ones(studies: Studies, seed: int) -> None:
    study = searched(studies, 0.5, 0.6)
    study.plan = replace(study.plan, config=replace(study.plan.config, seed=seed))
    for _ in range(2):  # the second time they are there
        again = confirmed(studies, study, 5)
    assert again.n_trials == 10
    for _ in range(10):
        train(again, 0.5)
    assert len({trial.params["seed"] for trial in again.trials()}) == 5


@pytest.mark.parametrize(
    ("state", "trained_again"), [("failed", True), ("diverged", False), ("complete", False)]
)
def test_what_failed_is_tried_again_with_the_next_start(
    studies: Studies, state: str, trained_again: bool
) -> None:
    study = searched(studies, 0.5, 0.6)
    again = confirmed(studies, study, 2)
    for each in ("complete", state, "complete", "complete"):
        train(again, 0.5, state=each)
    study = studies.open(study.plan, study.settings)
    again = confirmed(studies, study, 2)
    assignment = again.next()
    assert (assignment is not None) is trained_again
    if assignment is not None:
        assert (assignment.number, assignment.params) == (4, again.plan.enqueued_trials[1])
        assert again.next() is None


def test_a_good_enough_value_does_not_end_it(studies: Studies) -> None:
    study = studies.open(settings=sweeper(target=0.6))
    train(study, 0.5)
    train(study, 0.6)
    assert study.next() is None
    again = confirmed(studies, study, 2)
    for _ in range(4):
        train(again, 0.9)


@pytest.mark.parametrize(
    ("first", "second", "number"),
    # by how much two trials, confirmed one after the other, are better than the baseline on either
    # seed
    [
        ((0.10, 0.11), (0.00, 0.20), 1),  # one proved itself, the new best did not
        ((0.10, 0.11), (0.20, 0.21), 2),
        ((0.20, 0.21), (0.10, 0.11), 1),
        ((0.00, 0.20), (0.10, 0.11), 2),
        ((0.00, 0.20), (0.00, 0.20), 2),
        ((-0.20, -0.21), (0.00, 0.20), 2),
    ],
)
def test_who_proved_itself_is_not_forgotten_for_a_luckier_one(
    studies: Studies, first: tuple[float, float], second: tuple[float, float], number: int
) -> None:
    study = searched(studies, 0.5, 0.6)
    again = confirmed(studies, study, 2)
    for value in (0.5, 0.5 + first[0], 0.5, 0.5 + first[1]):
        train(again, value)
    train(study, 0.7)
    again = confirmed(studies, study, 2)
    for gain in second:
        train(again, 0.5 + gain)
    assert proven(verdicts(again), best=2) == number


def test_more_seeds_outweigh_a_larger_difference() -> None:
    two = compare((0.5, 0.5), (0.7, 0.71), maximize=True)
    five = compare((0.5,) * 5, (0.60, 0.61, 0.60, 0.61, 0.60), maximize=True)
    assert (two.word, five.word) == ("better", "better")
    assert proven({3: two, 40: five}, best=3) == 40
    assert proven({3: five, 40: two}, best=40) == 3


def test_no_run_is_pruned(studies: Studies) -> None:
    again = confirmed(studies, searched(studies, 0.5, 0.6), 2)
    train(again, 0.9)
    assert again.next() is not None
    assert not again.report(1, 1, 0.1)


# the verdict


@pytest.mark.parametrize(
    ("ends", "pairs"),
    [
        # baseline and best of each seed, complete unless it says otherwise
        ([("", ""), ("", ""), ("", "")], ((0.50, 0.51, 0.52), (0.60, 0.61, 0.62))),
        ([("", ""), ("failed", ""), ("", "")], ((0.50, 0.52), (0.60, 0.62))),
        ([("", ""), ("", "diverged"), ("", "")], ((0.50, 0.52), (0.60, 0.62))),
        ([("", ""), ("failed", "failed"), ("", "")], ((0.50, 0.52), (0.60, 0.62))),
        ([("", ""), ("failed", ""), ("", "failed")], None),
        ([("", "")], None),
        ([], None),
    ],
)
def test_a_seed_counts_if_both_arms_are_complete(
    studies: Studies,
    ends: list[tuple[str, str]],
    pairs: tuple[tuple[float, ...], tuple[float, ...]] | None,
) -> None:
    again = confirmed(studies, searched(studies, 0.5, 0.6), 3)
    for index, states in enumerate(ends):
        for value, state in zip((0.5, 0.6), states, strict=True):
            train(again, value + index / 100, state=state or "complete")
    found = verdict(again, 1)
    assert found == (compare(*pairs, maximize=True) if pairs else None)


def test_a_pair_is_of_one_seed_whichever_arm_ended_first(studies: Studies) -> None:
    again = confirmed(studies, searched(studies, 0.5, 0.6), 2)
    for _ in range(4):
        again.next()
    for number in (3, 0, 2, 1):
        write(again, number, number / 10)
        again.tell(number, TrialStatus.complete, "")
    assert verdict(again, 1) == compare((0.0, 0.2), (0.1, 0.3), maximize=True)


@pytest.mark.parametrize(("direction", "word"), [("maximize", "better"), ("minimize", "worse")])
def test_better_is_what_the_study_looked_for(studies: Studies, direction: str, word: str) -> None:
    values = (0.5, 0.6) if direction == "maximize" else (0.5, 0.4)
    again = confirmed(studies, searched(studies, *values, direction=direction), 2)
    for value in (0.25, 0.5, 0.5, 0.75):
        assert train(again, value).state == TrialState.COMPLETE
    found = verdict(again, 1)
    assert found is not None
    assert found.word == word
