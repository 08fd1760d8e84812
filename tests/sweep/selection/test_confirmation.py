"""Confirming the best config: the t interval against SciPy's, and the study that computes it."""

from dataclasses import replace

import numpy as np
import pytest
from optuna.trial import TrialState
from scipy import stats
from studies import BASELINE, Studies, sweeper, train, write

from svhn_sweep.config.schema import MAX_SEED
from svhn_sweep.sweep.selection.confirmation import (
    ConfirmationPlan,
    Verdict,
    VerdictOutcome,
    best_confirmed,
    compare,
    plan_confirmation,
    verdict_on_trial,
    verdicts_by_trial,
)
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.study.trial_run import run_info
from svhn_sweep.trial_status import TrialStatus


def searched(studies: Studies, *values: float, direction: str = "maximize") -> Study:
    """A study whose search is over; the first value is the baseline's."""
    study = studies.open(settings=sweeper(direction=direction))
    for value in values:
        train(study, value)
    return study


def planned(study: Study, seeds: int) -> ConfirmationPlan:
    plan = plan_confirmation(study, seeds)
    assert plan is not None
    return plan


def opened(studies: Studies, study: Study, seeds: int) -> Study:
    """Opens the confirmation as the driver does, in the storage of its study."""
    return Study(
        planned(study, seeds), study.settings, studies.opened[-1], study.threads, prune=False
    )


def seeds_of(study: Study) -> list[int]:
    """The seeds of the best config, in the order of the trials."""
    return [trial.params["seed"] for trial in study.trials() if trial.params["trial"] != 0]


# the interval

VERDICTS = [
    # baseline, best, outcome if the metric is maximized, if it is minimized
    ((0.80, 0.81, 0.79, 0.80, 0.82), (0.85, 0.86, 0.84, 0.87, 0.86), "better", "worse"),
    ((0.85, 0.86, 0.84, 0.87, 0.86), (0.80, 0.81, 0.79, 0.80, 0.82), "worse", "better"),
    (
        (0.80, 0.81, 0.79, 0.80, 0.82),
        (0.81, 0.79, 0.80, 0.82, 0.80),
        "indistinguishable",
        "indistinguishable",
    ),
    ((0.80, 0.81), (0.81, 0.83), "indistinguishable", "indistinguishable"),  # wide, with two seeds
    ((0.80, 0.81), (0.90, 0.91001), "better", "worse"),
    (
        (0.2, 0.9, 0.5),
        (0.3, 1.01, 0.6),
        "better",
        "worse",
    ),  # the pairs differ little, the seeds much
    ((2.5, 1.25), (2.75, 1.375), "indistinguishable", "indistinguishable"),
]


@pytest.mark.parametrize(("baseline", "best", "maximized", "minimized"), VERDICTS)
def test_the_interval_is_that_of_scipys_paired_t_test(
    baseline: tuple[float, ...],
    best: tuple[float, ...],
    maximized: VerdictOutcome,
    minimized: VerdictOutcome,
) -> None:
    verdict = compare(baseline, best, maximize=True)
    interval = stats.ttest_rel(best, baseline).confidence_interval(0.95)
    assert (verdict.low, verdict.high) == pytest.approx((interval.low, interval.high))
    assert verdict.difference == pytest.approx(np.mean(best) - np.mean(baseline))
    assert (verdict.baseline, verdict.best, verdict.outcome) == (baseline, best, maximized)
    assert compare(baseline, best, maximize=False) == replace(verdict, outcome=minimized)


@pytest.mark.parametrize(
    ("baseline", "best", "difference", "maximized", "minimized"),
    [
        ((0.25, 0.5), (0.5, 0.75), 0.25, "better", "worse"),
        ((0.5, 0.75, 0.25), (0.25, 0.5, 0.0), -0.25, "worse", "better"),
        ((0.5, 0.75), (0.5, 0.75), 0.0, "indistinguishable", "indistinguishable"),
    ],
)
def test_equal_differences_have_an_interval_of_no_width(
    baseline: tuple[float, ...],
    best: tuple[float, ...],
    difference: float,
    maximized: VerdictOutcome,
    minimized: VerdictOutcome,
) -> None:
    for maximize, outcome in ((True, maximized), (False, minimized)):
        assert compare(baseline, best, maximize=maximize) == Verdict(
            baseline, best, difference, difference, outcome
        )


# the plan


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
def test_the_best_trial_is_confirmed_unless_it_is_the_baseline(
    studies: Studies, direction: str, values: list[float], best: int | None
) -> None:
    plan = plan_confirmation(searched(studies, *values, direction=direction), 2)
    assert ([params["trial"] for params in plan.enqueued_trials] if plan else None) == (
        None if best is None else [0, best] * 2
    )


@pytest.mark.parametrize("state", ["diverged", "failed"])
def test_without_a_complete_baseline_nothing_is_confirmed(studies: Studies, state: str) -> None:
    study = studies.open()
    train(study, 0.5, state=state)
    train(study, 0.6)
    assert plan_confirmation(study, 2) is None


def test_both_configs_are_enqueued_on_fresh_seeds(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6)
    plan = planned(study, 3)
    assert [(params["trial"], params["seed"]) for params in plan.enqueued_trials] == [
        (number, seed) for seed in (43, 44, 45) for number in (0, 1)
    ]
    assert (plan.name, plan.folder) == ("study-confirm", study.plan.folder / "confirm")
    assert plan.trial_overrides(plan.enqueued_trials[0]) == [
        *study.plan.trial_overrides(BASELINE),
        "seed=43",
        "tracking.log_model=true",
    ]
    best = study.trials()[1].params
    assert plan.trial_overrides(plan.enqueued_trials[1]) == [
        *study.plan.trial_overrides(best),
        "seed=43",
        "tracking.log_model=true",
    ]
    assert (
        plan.run_name(0, plan.enqueued_trials[0]),
        plan.describe(1, plan.enqueued_trials[1]),
    ) == (
        "model1 · baseline · seed 43",
        "trial 1, seed 43",
    )


@pytest.mark.parametrize("seed", [0, 42, MAX_SEED - 1, MAX_SEED])
def test_the_studys_own_seed_is_not_among_the_fresh_ones(studies: Studies, seed: int) -> None:
    study = searched(studies, 0.5, 0.6)
    study.plan = replace(study.plan, config=replace(study.plan.config, seed=seed))
    seeds = {params["seed"] for params in planned(study, 1000).enqueued_trials}
    assert len(seeds) == 1000
    assert seed not in seeds
    assert all(type(fresh) is int and 0 <= fresh <= MAX_SEED for fresh in seeds)


def test_runs_are_nested_in_the_run_of_the_search(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6)
    confirmation = opened(studies, study, 2)
    pending = confirmation.ask()
    assert pending is not None
    run = run_info(confirmation.plan, pending)
    assert (run.name, run.tags["role"]) == (
        "model1 · baseline · seed 43",
        "confirmation",
    )
    assert (confirmation.plan.trial_dir(0) / run.parent).resolve() == study.plan.folder.resolve()


# the study over trials and seeds


def test_both_configs_are_trained_on_every_seed_and_no_more(studies: Studies) -> None:
    confirmation = opened(studies, searched(studies, 0.5, 0.6), 3)
    for _ in range(6):
        train(confirmation, 0.5)
    assert confirmation.ask() is None
    assert [tuple(trial.params.values()) for trial in confirmation.trials()] == [
        (number, seed) for seed in (43, 44, 45) for number in (0, 1)
    ]


def test_an_interrupted_trial_is_continued(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6)
    confirmation = opened(studies, study, 2)
    train(confirmation, 0.5)
    interrupted = confirmation.ask()
    study = studies.open(study.plan, study.settings)
    confirmation = opened(studies, study, 2)
    assert confirmation.ask() == interrupted
    assert [confirmation.ask() is not None for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("done", [0, 1, 4])
def test_more_seeds_keep_the_trials_of_an_earlier_start(studies: Studies, done: int) -> None:
    study = searched(studies, 0.5, 0.6)
    confirmation = opened(studies, study, 2)
    before = [train(confirmation, 0.5).params for _ in range(done)]
    study = studies.open(study.plan, study.settings)
    confirmation = opened(studies, study, 3)
    for _ in range(6 - done):
        train(confirmation, 0.7)
    assert confirmation.ask() is None
    assert [trial.params for trial in confirmation.trials()][:done] == before
    assert seeds_of(confirmation) == [43, 44, 45]
    assert len(confirmation.trials()) == 6


def test_fewer_seeds_keep_all_trials_in_the_verdict(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6)
    confirmation = opened(studies, study, 3)
    for value in (0.5, 0.7) * 3:
        train(confirmation, value)
    fewer = opened(studies, study, 2)
    assert fewer.ask() is None
    verdict = verdict_on_trial(fewer, 1)
    assert verdict is not None
    assert verdict.best == (0.7, 0.7, 0.7)


def test_a_new_best_trial_is_compared_with_the_same_baselines(studies: Studies) -> None:
    study = studies.open(studies.plan(n_trials=3))
    train(study, 0.5)
    train(study, 0.6)
    first = opened(studies, study, 2)
    for value in (0.50, 0.60, 0.51, 0.61):
        train(first, value)
    train(study, 0.7)
    confirmation = opened(studies, study, 2)
    for value in (0.70, 0.71):
        train(confirmation, value)
    assert confirmation.ask() is None
    assert verdict_on_trial(confirmation, 2) == compare((0.50, 0.51), (0.70, 0.71), maximize=True)
    assert verdict_on_trial(confirmation, 1) == compare((0.50, 0.51), (0.60, 0.61), maximize=True)


@pytest.mark.parametrize("seed", [99_999, 20_240_601, MAX_SEED])
def test_large_seeds_are_distinct_trials(studies: Studies, seed: int) -> None:
    study = searched(studies, 0.5, 0.6)
    study.plan = replace(study.plan, config=replace(study.plan.config, seed=seed))
    for _ in range(2):  # the second time all are enqueued already
        confirmation = opened(studies, study, 5)
    assert confirmation.n_trials == 10
    for _ in range(10):
        train(confirmation, 0.5)
    assert len({trial.params["seed"] for trial in confirmation.trials()}) == 5


@pytest.mark.parametrize(
    ("state", "trained_again"), [("failed", True), ("diverged", False), ("complete", False)]
)
def test_a_failed_trial_is_trained_again_by_the_next_start(
    studies: Studies, state: str, trained_again: bool
) -> None:
    study = searched(studies, 0.5, 0.6)
    confirmation = opened(studies, study, 2)
    for trial_state in ("complete", state, "complete", "complete"):
        train(confirmation, 0.5, state=trial_state)
    study = studies.open(study.plan, study.settings)
    confirmation = opened(studies, study, 2)
    pending = confirmation.ask()
    assert (pending is not None) is trained_again
    if pending is not None:
        assert (pending.number, pending.params) == (4, confirmation.plan.enqueued_trials[1])
        assert confirmation.ask() is None


def test_the_target_value_does_not_end_a_confirmation(studies: Studies) -> None:
    study = studies.open(settings=sweeper(target_value=0.6))
    train(study, 0.5)
    train(study, 0.6)
    assert study.ask() is None
    confirmation = opened(studies, study, 2)
    for _ in range(4):
        train(confirmation, 0.9)


@pytest.mark.parametrize(
    ("first", "second", "number"),
    # differences to the baseline of two trials, confirmed one after the other, on both seeds
    [
        ((0.10, 0.11), (0.00, 0.20), 1),  # the first is better, the new best indistinguishable
        ((0.10, 0.11), (0.20, 0.21), 2),
        ((0.20, 0.21), (0.10, 0.11), 1),
        ((0.00, 0.20), (0.10, 0.11), 2),
        ((0.00, 0.20), (0.00, 0.20), 2),
        ((-0.20, -0.21), (0.00, 0.20), 2),
    ],
)
def test_the_best_confirmed_trial_is_kept_when_the_search_has_a_new_best(
    studies: Studies, first: tuple[float, float], second: tuple[float, float], number: int
) -> None:
    study = searched(studies, 0.5, 0.6)
    confirmation = opened(studies, study, 2)
    for value in (0.5, 0.5 + first[0], 0.5, 0.5 + first[1]):
        train(confirmation, value)
    train(study, 0.7)
    confirmation = opened(studies, study, 2)
    for gain in second:
        train(confirmation, 0.5 + gain)
    assert best_confirmed(verdicts_by_trial(confirmation), best=2) == number


def test_more_seeds_outweigh_a_larger_difference() -> None:
    two = compare((0.5, 0.5), (0.7, 0.71), maximize=True)
    five = compare((0.5,) * 5, (0.60, 0.61, 0.60, 0.61, 0.60), maximize=True)
    assert (two.outcome, five.outcome) == ("better", "better")
    assert best_confirmed({3: two, 40: five}, best=3) == 40
    assert best_confirmed({3: five, 40: two}, best=40) == 3


def test_no_trial_of_a_confirmation_is_pruned(studies: Studies) -> None:
    confirmation = opened(studies, searched(studies, 0.5, 0.6), 2)
    train(confirmation, 0.9)
    assert confirmation.ask() is not None
    assert not confirmation.report(1, 1, 0.1)


# the verdict


@pytest.mark.parametrize(
    ("states_by_seed", "pairs"),
    [
        # for each seed the states of baseline and best; empty: complete
        ([("", ""), ("", ""), ("", "")], ((0.50, 0.51, 0.52), (0.60, 0.61, 0.62))),
        ([("", ""), ("failed", ""), ("", "")], ((0.50, 0.52), (0.60, 0.62))),
        ([("", ""), ("", "diverged"), ("", "")], ((0.50, 0.52), (0.60, 0.62))),
        ([("", ""), ("failed", "failed"), ("", "")], ((0.50, 0.52), (0.60, 0.62))),
        ([("", ""), ("failed", ""), ("", "failed")], None),
        ([("", "")], None),
        ([], None),
    ],
)
def test_a_seed_counts_if_both_configs_are_complete(
    studies: Studies,
    states_by_seed: list[tuple[str, str]],
    pairs: tuple[tuple[float, ...], tuple[float, ...]] | None,
) -> None:
    confirmation = opened(studies, searched(studies, 0.5, 0.6), 3)
    for index, states in enumerate(states_by_seed):
        for value, state in zip((0.5, 0.6), states, strict=True):
            train(confirmation, value + index / 100, state=state or "complete")
    verdict = verdict_on_trial(confirmation, 1)
    assert verdict == (compare(*pairs, maximize=True) if pairs else None)


def test_pairs_are_by_seed_in_whatever_order_trials_end(studies: Studies) -> None:
    confirmation = opened(studies, searched(studies, 0.5, 0.6), 2)
    for _ in range(4):
        confirmation.ask()
    for number in (3, 0, 2, 1):
        write(confirmation, number, number / 10)
        confirmation.tell(number, TrialStatus.complete, "")
    assert verdict_on_trial(confirmation, 1) == compare((0.0, 0.2), (0.1, 0.3), maximize=True)


@pytest.mark.parametrize(("direction", "outcome"), [("maximize", "better"), ("minimize", "worse")])
def test_the_outcome_follows_the_direction_of_the_study(
    studies: Studies, direction: str, outcome: VerdictOutcome
) -> None:
    values = (0.5, 0.6) if direction == "maximize" else (0.5, 0.4)
    confirmation = opened(studies, searched(studies, *values, direction=direction), 2)
    for value in (0.25, 0.5, 0.5, 0.75):
        assert train(confirmation, value).state == TrialState.COMPLETE
    verdict = verdict_on_trial(confirmation, 1)
    assert verdict is not None
    assert verdict.outcome == outcome
