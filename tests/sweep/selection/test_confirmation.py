"""Confirming the best config: the t interval against SciPy's, and the study that computes it."""

from dataclasses import replace

import numpy as np
import pytest
from optuna.distributions import IntDistribution
from optuna.trial import TrialState
from scipy import stats
from studies import BASELINE, Studies, compare, fixed_seeds, sweeper, train, write

from svhn_sweep.config.data_sources import MAX_SEED
from svhn_sweep.sweep.plan.search_space import Params
from svhn_sweep.sweep.plan.settings import ConfirmConfig
from svhn_sweep.sweep.selection.champion import BASELINE as BASELINE_CONFIG
from svhn_sweep.sweep.selection.champion import BEST, select_candidate
from svhn_sweep.sweep.selection.confirmation import (
    WINNER,
    ConfirmationPlan,
    ConfirmationStudy,
    best_confirmed,
    plan_confirmation,
)
from svhn_sweep.sweep.selection.race import VerdictOutcome, hold_race
from svhn_sweep.sweep.selection.verdict import Verdict
from svhn_sweep.sweep.study.study import PendingTrial, Study
from svhn_sweep.sweep.study.trial_run import run_info
from svhn_sweep.trial_status import TrialStatus


def searched(studies: Studies, *values: float, direction: str = "maximize") -> Study:
    """A study whose search is over; the first value is the baseline's."""
    study = studies.open(settings=sweeper(direction=direction))
    for value in values:
        train(study, value)
    return study


def planned(study: Study, seeds: int) -> ConfirmationPlan:
    plan = plan_confirmation(study, fixed_seeds(seeds))
    assert plan is not None
    return plan


def opened(studies: Studies, study: Study, seeds: int) -> ConfirmationStudy:
    """Opens the confirmation as the driver does, in the storage of its study."""
    return ConfirmationStudy(
        planned(study, seeds), study.settings, studies.opened[-1], study.threads
    )


def missing(plan: ConfirmationPlan) -> list[tuple[int, int]]:
    """The trainings of a confirmation that has none yet, as pairs of a trial and a seed."""
    return hold_race({}, plan.candidates, plan.rules).missing


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
        "undecided",
        "undecided",
    ),
    ((0.80, 0.81), (0.81, 0.83), "undecided", "undecided"),  # wide, with two seeds
    ((0.80, 0.81), (0.90, 0.91001), "better", "worse"),
    (
        (0.2, 0.9, 0.5),
        (0.3, 1.01, 0.6),
        "better",
        "worse",
    ),  # the pairs differ little, the seeds much
    ((2.5, 1.25), (2.75, 1.375), "undecided", "undecided"),
]


@pytest.mark.parametrize(("baseline", "best", "maximized", "minimized"), VERDICTS)
def test_the_interval_is_that_of_scipys_paired_t_test(
    baseline: tuple[float, ...],
    best: tuple[float, ...],
    maximized: str,
    minimized: str,
) -> None:
    verdict = compare(baseline, best, maximize=True)
    interval = stats.ttest_rel(best, baseline).confidence_interval(0.95)
    assert (verdict.low, verdict.high) == pytest.approx((interval.low, interval.high))
    assert verdict.difference == pytest.approx(np.mean(best) - np.mean(baseline))
    assert (verdict.baseline, verdict.best, verdict.outcome) == (baseline, best, maximized)
    assert compare(baseline, best, maximize=False) == replace(
        verdict, outcome=VerdictOutcome(minimized)
    )


@pytest.mark.parametrize(
    ("baseline", "best", "difference", "maximized", "minimized"),
    [
        ((0.25, 0.5), (0.5, 0.75), 0.25, "better", "worse"),
        ((0.5, 0.75, 0.25), (0.25, 0.5, 0.0), -0.25, "worse", "better"),
        ((0.5, 0.75), (0.5, 0.75), 0.0, "undecided", "undecided"),
    ],
)
def test_equal_differences_have_an_interval_of_no_width(
    baseline: tuple[float, ...],
    best: tuple[float, ...],
    difference: float,
    maximized: str,
    minimized: str,
) -> None:
    for maximize, outcome in ((True, maximized), (False, minimized)):
        assert compare(baseline, best, maximize=maximize) == Verdict(
            baseline, best, difference, difference, VerdictOutcome(outcome)
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
    plan = plan_confirmation(searched(studies, *values, direction=direction), fixed_seeds(2))
    assert ([number for number, _ in missing(plan)] if plan else None) == (
        None if best is None else [0, best] * 2
    )


@pytest.mark.parametrize("state", ["diverged", "failed"])
def test_without_a_complete_baseline_nothing_is_confirmed(studies: Studies, state: str) -> None:
    study = studies.open()
    train(study, 0.5, state=state)
    train(study, 0.6)
    assert plan_confirmation(study, fixed_seeds(2)) is None


def test_both_configs_are_enqueued_on_fresh_seeds(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6)
    plan = planned(study, 3)
    assert missing(plan) == [(number, seed) for seed in (43, 44, 45) for number in (0, 1)]
    baseline, first = ({"trial": number, "seed": 43} for number in (0, 1))
    assert (plan.name, plan.folder) == ("study-confirm", study.plan.folder / "confirm")
    assert plan.trial_overrides(baseline) == [
        *study.plan.trial_overrides(BASELINE),
        "seed=43",
        "tracking.log_model=true",
    ]
    best = study.trials()[1].params
    assert plan.trial_overrides(first) == [
        *study.plan.trial_overrides(best),
        "seed=43",
        "tracking.log_model=true",
    ]
    assert (
        plan.run_name(0, baseline),
        plan.describe(1, first),
    ) == (
        "model1 · baseline · seed 43",
        "trial 1, seed 43",
    )


@pytest.mark.parametrize("seed", [0, 42, MAX_SEED - 1, MAX_SEED])
def test_the_studys_own_seed_is_not_among_the_fresh_ones(studies: Studies, seed: int) -> None:
    study = searched(studies, 0.5, 0.6)
    study.plan = replace(study.plan, config=replace(study.plan.config, seed=seed))
    seeds = {seed for _, seed in missing(planned(study, 1000))}
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


@pytest.mark.parametrize("suggested", [0, 1])
def test_a_trial_whose_driver_died_before_it_had_its_params_is_continued(
    studies: Studies, suggested: int
) -> None:
    study = searched(studies, 0.5, 0.6)
    confirmation = opened(studies, study, 2)
    confirmation.optuna_study.enqueue_trial({"trial": 0, "seed": 43})
    trial = confirmation.optuna_study.ask()
    for key in list(confirmation.plan.space)[:suggested]:
        distribution = confirmation.plan.space[key]
        assert isinstance(distribution, IntDistribution)
        trial.suggest_int(key, distribution.low, distribution.high)
    confirmation = opened(studies, studies.open(study.plan, study.settings), 2)
    assert confirmation.trials_left() == 4
    asked = [ask(confirmation) for _ in range(4)]
    assert [(pending.number, pending.params) for pending in asked[:2]] == [
        (0, {"trial": 0, "seed": 43}),
        (1, {"trial": 1, "seed": 43}),
    ]
    assert confirmation.ask() is None


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


def test_fewer_seeds_use_the_first_ones_of_an_earlier_start(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6)
    confirmation = opened(studies, study, 3)
    for value in (0.5, 0.7, 0.5, 0.8, 0.5, 0.9):
        train(confirmation, value)
    fewer = opened(studies, study, 2)
    assert fewer.ask() is None
    verdict = fewer.verdicts().get(1)
    assert verdict is not None
    assert verdict.best == (0.7, 0.8)


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
    assert confirmation.verdicts().get(2) == compare((0.50, 0.51), (0.70, 0.71), maximize=True)
    assert confirmation.verdicts().get(1) == compare((0.50, 0.51), (0.60, 0.61), maximize=True)


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
        assert (pending.number, pending.params) == (4, {"trial": 1, "seed": 43})
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
        ((0.10, 0.11), (0.00, 0.20), 1),  # the first is better, the new best undecided
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
    assert confirmation.winner(best=2) == number


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
    verdict = confirmation.verdicts().get(1)
    assert verdict == (compare(*pairs, maximize=True) if pairs else None)


def test_pairs_are_by_seed_in_whatever_order_trials_end(studies: Studies) -> None:
    confirmation = opened(studies, searched(studies, 0.5, 0.6), 2)
    for _ in range(4):
        confirmation.ask()
    for number in (3, 0, 2, 1):
        write(confirmation, number, number / 10)
        confirmation.tell(number, TrialStatus.complete, "")
    assert confirmation.verdicts().get(1) == compare((0.0, 0.2), (0.1, 0.3), maximize=True)


@pytest.mark.parametrize(("direction", "outcome"), [("maximize", "better"), ("minimize", "worse")])
def test_the_outcome_follows_the_direction_of_the_study(
    studies: Studies, direction: str, outcome: str
) -> None:
    values = (0.5, 0.6) if direction == "maximize" else (0.5, 0.4)
    confirmation = opened(studies, searched(studies, *values, direction=direction), 2)
    for value in (0.25, 0.5, 0.5, 0.75):
        assert train(confirmation, value).state == TrialState.COMPLETE
    verdict = confirmation.verdicts().get(1)
    assert verdict is not None
    assert verdict.outcome == outcome


# the race

RACE = ConfirmConfig(candidates=2, max_seeds=8, margin=0.005, seeds=None)
GAINS = {0: 0.0, 1: 0.02, 2: 0.05}  # of the trials of the search over the baseline


def racing(studies: Studies, study: Study, confirm: ConfirmConfig = RACE) -> ConfirmationStudy:
    plan = plan_confirmation(study, confirm)
    assert plan is not None
    return ConfirmationStudy(plan, study.settings, studies.opened[-1], study.threads)


def value_of(params: Params) -> float:
    """The value of a training: it depends on the trial and a little on the seed."""
    seed = int(str(params["seed"]))
    return 0.8 + GAINS[int(str(params["trial"]))] + 0.001 * (seed % 3)


def finish(confirmation: ConfirmationStudy, pending: PendingTrial) -> None:
    write(confirmation, pending.number, value_of(pending.params))
    (confirmation.plan.trial_dir(pending.number) / "model").mkdir()
    confirmation.tell(pending.number, TrialStatus.complete, "")


def ask(confirmation: ConfirmationStudy) -> PendingTrial:
    pending = confirmation.ask()
    assert pending is not None
    return pending


def test_the_best_trials_that_beat_the_baseline_race(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.7, 0.4, 0.8, 0.6)
    for n, candidates in ((1, [3]), (2, [3, 1]), (9, [3, 1, 4])):
        plan = plan_confirmation(study, replace(RACE, candidates=n))
        assert plan is not None
        assert plan.candidates == candidates


@pytest.mark.parametrize("workers", [1, 2, 5, 7])
def test_a_race_with_any_number_of_workers_has_the_same_result(
    studies: Studies, workers: int
) -> None:
    study = searched(studies, 0.5, 0.6, 0.7)
    confirmation = racing(studies, study)
    running: list[PendingTrial] = []
    while confirmation.trials_left() or running:
        while len(running) < workers and confirmation.trials_left():
            running.append(ask(confirmation))
        finish(confirmation, running.pop())  # the last one ends first
    race = confirmation.race()
    assert (race.leader, race.outcome, len(race.seeds), race.left) == (2, "better", 3, {1: 3})
    assert confirmation.is_finished()
    assert confirmation.winner(best=1) == 2
    verdict = confirmation.verdicts()[2]
    assert verdict.best == pytest.approx((0.851, 0.852, 0.85))
    assert verdict.difference == pytest.approx(0.05)
    candidate = select_candidate(study, confirmation)
    assert candidate is not None
    seeds = {config: sorted(runs) for config, runs in candidate.runs.items()}
    assert seeds == {BASELINE_CONFIG: [43, 44, 45], BEST: [43, 44, 45]}


def test_what_a_decided_race_can_do_without_is_pruned(studies: Studies) -> None:
    confirmation = racing(studies, searched(studies, 0.5, 0.6, 0.7))
    decisive = [ask(confirmation) for _ in range(9)]
    extra = ask(confirmation)
    assert extra.params == {"trial": 0, "seed": 46}
    assert not confirmation.report(extra.number, 1, 0.8)
    for pending in decisive:
        finish(confirmation, pending)
    assert confirmation.report(extra.number, 2, 0.8)
    write(confirmation, extra.number, 0.8)
    confirmation.tell(extra.number, TrialStatus.pruned, "")
    assert confirmation.ask() is None
    assert confirmation.n_trials == len(confirmation.trials()) == 10


def test_a_race_is_continued_where_it_stopped(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6, 0.7)
    confirmation = racing(studies, study)
    for _ in range(4):
        finish(confirmation, ask(confirmation))
    interrupted = ask(confirmation)
    study = studies.open(study.plan, study.settings)
    confirmation = racing(studies, study)
    assert ask(confirmation) == interrupted
    finish(confirmation, interrupted)
    while confirmation.trials_left():
        finish(confirmation, ask(confirmation))
    assert len(confirmation.trials()) == 9
    assert confirmation.race().outcome == "better"


def test_an_interrupted_training_that_the_race_does_not_lack_is_not_continued(
    studies: Studies,
) -> None:
    study = searched(studies, 0.5, 0.6, 0.7)
    confirmation = racing(studies, study)
    decisive = [ask(confirmation) for _ in range(9)]
    extra = ask(confirmation)
    for pending in decisive:
        finish(confirmation, pending)
    confirmation.interrupt(extra.number)
    assert (confirmation.trials_left(), confirmation.ask()) == (0, None)
    confirmation = racing(studies, studies.open(study.plan, study.settings))
    assert (confirmation.is_finished(), confirmation.ask()) == (True, None)


def test_a_training_that_failed_is_repeated_by_the_next_start(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6)
    confirmation = racing(studies, study)
    train(confirmation, 0.8)
    train(confirmation, 0.8, state="failed")
    assert (confirmation.race().leader, confirmation.ask()) == (None, None)
    confirmation = racing(studies, studies.open(study.plan, study.settings))
    assert ask(confirmation).params == {"trial": 1, "seed": 43}


def test_the_winner_of_an_earlier_race_takes_part_in_the_next(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6, 0.7)
    study.optuna_study.set_user_attr(WINNER, 1)
    plan = plan_confirmation(study, replace(RACE, candidates=1))
    assert plan is not None
    assert plan.candidates == [2, 1]
