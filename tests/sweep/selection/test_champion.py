"""Selecting a candidate: which trial, which of the two configs, whose weights."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from studies import Studies, fixed_seeds, sweeper, train

from svhn_sweep.sweep.selection.champion import (
    BASELINE,
    BEST,
    Candidate,
    recommend,
    select_candidate,
)
from svhn_sweep.sweep.selection.confirmation import ConfirmationStudy, plan_confirmation
from svhn_sweep.sweep.selection.confusion_differences import load_confusion_matrices
from svhn_sweep.sweep.selection.evaluation_record import EvaluationRecord
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.workers.protocol import Cluster
from svhn_sweep.tracking import registry
from svhn_sweep.tracking.journal import Journal

BASELINES = (0.50, 0.51)


def searched(studies: Studies, *values: float) -> Study:
    study = studies.open(settings=replace(sweeper(), confirm=fixed_seeds(2)))
    for value in values:
        train(study, value)
    return study


def confirmed(
    studies: Studies, study: Study, *values: float, state: str = "complete"
) -> ConfirmationStudy:
    """Confirms the present best config; the values come in the order of the trials."""
    plan = plan_confirmation(study, fixed_seeds(2))
    assert plan is not None
    confirmation = ConfirmationStudy(plan, study.settings, studies.opened[-1], 1)
    for value in values:
        run = plan.trial_dir(train(confirmation, value, state=state).number)
        with Journal(run) as journal:
            journal.log_metrics({"val/best_accuracy": value})
        (run / "model").mkdir()
    return confirmation


def no_cluster() -> Cluster:
    """For tests that leave nothing to evaluate."""
    return cast(Cluster, None)


def selected(study: Study, confirmation: ConfirmationStudy | None) -> Candidate:
    candidate = select_candidate(study, confirmation)
    assert candidate is not None
    return candidate


def test_the_best_config_is_recommended_if_it_is_better(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6)
    confirmation = confirmed(studies, study, BASELINES[0], 0.70, BASELINES[1], 0.72)
    candidate = selected(study, confirmation)
    assert (candidate.trial_number, candidate.recommended_config) == (1, BEST)
    assert (candidate.best_seed(BEST), candidate.best_seed(BASELINE)) == (44, 44)
    assert candidate.validation_accuracy == pytest.approx(0.71)
    run = confirmation.plan.trial_dir
    assert candidate.runs == {BASELINE: {43: run(0), 44: run(2)}, BEST: {43: run(1), 44: run(3)}}


def test_removed_runs_are_not_evaluated(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6)
    confirmation = confirmed(studies, study, BASELINES[0], 0.70, BASELINES[1], 0.72)
    run = confirmation.plan.trial_dir
    for number in (0, 3):
        shutil.rmtree(run(number))
    candidate = selected(study, confirmation)
    assert candidate.runs == {BEST: {43: run(1)}, BASELINE: {44: run(2)}}
    assert (candidate.recommended_config, candidate.validation_accuracy) == (BEST, 0.70)
    shutil.rmtree(run(1))
    assert recommend([selected(study, confirmation)], no_cluster(), []) is None
    assert load_confusion_matrices(study, selected(study, confirmation)) is None


def test_the_baseline_is_recommended_if_the_best_config_is_not_better(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6)
    confirmation = confirmed(studies, study, BASELINES[0], 0.40, BASELINES[1], 0.72)
    candidate = selected(study, confirmation)
    assert (candidate.trial_number, candidate.recommended_config) == (1, BASELINE)
    assert candidate.validation_accuracy == pytest.approx(sum(BASELINES) / 2)


def test_a_confirmed_config_is_recommended_though_the_study_has_a_new_best(
    studies: Studies,
) -> None:
    study = searched(studies, 0.5, 0.6)
    first = confirmed(studies, study, BASELINES[0], 0.70, BASELINES[1], 0.72)
    train(study, 0.65)
    confirmation = confirmed(studies, study, 0.40, 0.80)
    candidate = selected(study, confirmation)
    assert (candidate.trial_number, candidate.recommended_config) == (1, BEST)
    assert candidate.runs[BEST] == {43: first.plan.trial_dir(1), 44: first.plan.trial_dir(3)}
    assert {number: verdict.outcome for number, verdict in candidate.verdicts.items()} == {
        1: "better",
        2: "undecided",
    }


def test_a_failed_confirmation_gives_a_candidate_without_runs(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.6)
    confirmation = confirmed(studies, study, 0.5, 0.5, 0.5, 0.5, state="failed")
    candidate = selected(study, confirmation)
    assert (candidate.runs, candidate.verdict) == ({}, None)


@pytest.mark.parametrize("has_model", [True, False])
def test_without_a_confirmation_the_baseline_is_selected_if_its_model_was_logged(
    studies: Studies, has_model: bool
) -> None:
    study = searched(studies, 0.6, 0.5)
    run = study.plan.trial_dir(0)
    if has_model:
        (run / "model").mkdir()
    candidate = select_candidate(study, None)
    assert (candidate.runs if candidate else None) == ({BASELINE: {42: run}} if has_model else None)


def test_without_a_baseline_there_is_no_candidate(studies: Studies) -> None:
    study = studies.open()
    train(study, 0.5, state="failed")
    train(study, 0.6)
    assert select_candidate(study, None) is None


def test_the_registered_version_is_described_and_has_its_test_accuracy(
    studies: Studies, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = searched(studies, 0.5, 0.6)
    confirmation = confirmed(studies, study, BASELINES[0], 0.70, BASELINES[1], 0.72)
    candidate = selected(study, confirmation)
    runs = [run for by_seed in candidate.runs.values() for run in by_seed.values()]
    key = " ".join(str(run.relative_to(study.plan.folder)) for run in runs)
    EvaluationRecord({key: {BASELINE: [0.4, 0.5], BEST: [0.68, 0.7]}}).save(study)
    proposed: list[tuple[dict[str, str], str]] = []

    def register(
        name: str, folder: Path, score: float, tags: dict[str, str], description: str
    ) -> registry.Registered:
        proposed.append((tags, description))
        return registry.Registered(name, "3", is_new=True)

    monkeypatch.setattr(registry, "register", register)
    recommendation = recommend([candidate], no_cluster(), [])
    assert recommendation is not None
    ((tags, description),) = proposed
    assert float(tags["test"]) == pytest.approx(0.69)
    assert description == (
        "model1: trial 1 of the study study. Accuracy 71.00% on validation, 69.00% on test, means "
        "over 2 seeds; the weights are those of seed 44, best on validation."
    )


def test_evaluations_are_read_from_the_studys_attribute_test(studies: Studies) -> None:
    study = studies.open()
    assert EvaluationRecord.load(study).accuracies == {}
    accuracies = {"trial-0000": {BASELINE: [0.5]}}
    EvaluationRecord(accuracies).save(study)
    assert study.optuna_study.user_attrs["test"] == accuracies
    assert EvaluationRecord.load(study).accuracies == accuracies
