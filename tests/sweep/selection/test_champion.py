"""What a study recommends: which trial, which arm, whose weights."""

import shutil
from dataclasses import replace
from typing import cast

import pytest
from studies import Studies, sweeper, train

from svhn_sweep.sweep.plan.settings import ConfirmConfig
from svhn_sweep.sweep.selection import confirmation
from svhn_sweep.sweep.selection.champion import BASELINE, BEST, Candidate, candidate, recommend
from svhn_sweep.sweep.selection.confusion_differences import confusions
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.workers.protocol import Cluster
from svhn_sweep.tracking.journal import Journal

BASELINES = (0.50, 0.51)


def searched(studies: Studies, *values: float) -> Study:
    study = studies.open(settings=replace(sweeper(), confirm=ConfirmConfig(2)))
    for value in values:
        train(study, value)
    return study


def confirmed(studies: Studies, study: Study, *values: float, state: str = "complete") -> Study:
    """The confirmation of the present best; the values in the order in which it hands out its
    trials.
    """
    plan = confirmation.plan(study, 2)
    assert plan is not None
    again = Study(plan, study.settings, studies.opened[-1], 1, prune=False)
    for value in values:
        trial = train(again, value, state=state)
        with Journal(again.folder(trial.number)) as journal:
            journal.metrics({"val/best_accuracy": value})
        (again.folder(trial.number) / "model").mkdir()
    return again


def no_cluster() -> Cluster:
    """For where nothing is left to be evaluated."""
    return cast(Cluster, None)


def found(study: Study, again: Study | None) -> Candidate:
    each = candidate(study, again)
    assert each is not None
    return each


def test_the_best_config_if_it_is_better(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6)
    again = confirmed(studies, study, BASELINES[0], 0.70, BASELINES[1], 0.72)
    each = found(study, again)
    assert (each.number, each.arm, each.seed(BEST), each.seed(BASELINE)) == (1, BEST, 44, 44)
    assert each.validation == pytest.approx(0.71)
    assert each.runs == {
        BASELINE: {43: again.folder(0), 44: again.folder(2)},
        BEST: {43: again.folder(1), 44: again.folder(3)},
    }


def test_what_the_user_removed_for_its_space_is_no_longer_judged(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6)
    again = confirmed(studies, study, BASELINES[0], 0.70, BASELINES[1], 0.72)
    for number in (0, 3):
        shutil.rmtree(again.folder(number))
    each = found(study, again)
    assert each.runs == {BEST: {43: again.folder(1)}, BASELINE: {44: again.folder(2)}}
    assert (each.arm, each.validation) == (BEST, 0.70)
    shutil.rmtree(again.folder(1))
    assert recommend([found(study, again)], no_cluster(), []) is None
    assert confusions(study, found(study, again)) is None


def test_the_baseline_if_it_is_not(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6)
    each = found(study, confirmed(studies, study, BASELINES[0], 0.40, BASELINES[1], 0.72))
    assert (each.number, each.arm) == (1, BASELINE)
    assert each.validation == pytest.approx(sum(BASELINES) / 2)


def test_one_that_proved_itself_though_the_study_has_a_new_best(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6)
    first = confirmed(studies, study, BASELINES[0], 0.70, BASELINES[1], 0.72)
    train(study, 0.65)
    again = confirmed(studies, study, 0.40, 0.80)
    each = found(study, again)
    assert (each.number, each.arm) == (1, BEST)
    assert each.runs[BEST] == {43: first.folder(1), 44: first.folder(3)}
    assert {number: verdict.word for number, verdict in each.verdicts.items()} == {
        1: "better",
        2: "indistinguishable",
    }


def test_where_the_confirmation_failed_there_is_nothing_to_judge_but_something_to_say(
    studies: Studies,
) -> None:
    study = searched(studies, 0.5, 0.6)
    each = found(study, confirmed(studies, study, 0.5, 0.5, 0.5, 0.5, state="failed"))
    assert (each.runs, each.verdict) == ({}, None)


@pytest.mark.parametrize("logged", [True, False])
def test_without_a_confirmation_the_baselines_own_model_if_it_was_logged(
    studies: Studies, logged: bool
) -> None:
    study = searched(studies, 0.6, 0.5)
    if logged:
        (study.folder(0) / "model").mkdir()
    each = candidate(study, None)
    assert (each.runs if each else None) == ({BASELINE: {42: study.folder(0)}} if logged else None)


def test_without_a_baseline_there_is_no_candidate(studies: Studies) -> None:
    study = studies.open()
    train(study, 0.5, state="failed")
    train(study, 0.6)
    assert candidate(study, None) is None
