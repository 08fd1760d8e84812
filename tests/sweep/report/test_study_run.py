"""Tests the MLflow run of a study, and what it adds to the runs of the study's trials."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from studies import Studies, fixed_seeds, sweeper, train

from svhn_sweep.sweep.plan.settings import ConfirmConfig
from svhn_sweep.sweep.report.study_run import StudyRun
from svhn_sweep.sweep.selection.confirmation import ConfirmationStudy, plan_confirmation
from svhn_sweep.sweep.selection.confusion_differences import ConfusionMatrices
from svhn_sweep.sweep.selection.race import Race, RaceRules, hold_race
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.tracking import markdown
from svhn_sweep.tracking.journal import Journal, history
from svhn_sweep.tracking.journal import read as read_journal
from svhn_sweep.trial_status import TrialStatus

COMMAND = "python -m svhn_sweep -m optuna"


def start_run(study: Study) -> StudyRun:
    study_run = StudyRun.start(study, list(study.plan.space), COMMAND, [])
    study_run.update()
    return study_run


def description_of(folder: Path) -> str:
    with Journal(folder) as journal:
        return journal.description


def train_trial(study: Study, *values: float, text: str = "Trained.") -> Path:
    """Trains a trial whose run has the description `text`; returns its folder."""
    folder = study.plan.trial_dir(train(study, *values).number)
    if text:
        with Journal(folder) as journal:
            journal.set_description(text)
    return folder


@pytest.mark.parametrize(
    ("values", "text", "expected"),
    [
        (
            (0.80, 0.85),
            "Trained.",
            "**+5.00 points** of val/accuracy against the baseline.\n\nTrained.",
        ),
        (
            (0.80, 0.79),
            "Trained.",
            "**-1.00 points** of val/accuracy against the baseline.\n\nTrained.",
        ),
        ((0.80, 0.85), "", ""),  # recorded by an earlier version, without a description
    ],
)
def test_a_trials_description_begins_with_its_difference_to_the_baseline(
    studies: Studies, values: tuple[float, float], text: str, expected: str
) -> None:
    study = studies.open()
    folders = [train_trial(study, value, text=text) for value in values]
    for _ in range(2):  # a resumed sweep does not add it again
        with start_run(study).journal:
            pass
        assert [description_of(folder) for folder in folders] == [text, expected]
    assert history(folders[1])[0]["delta_to_baseline"] == pytest.approx(values[1] - values[0])


def test_start_records_a_run_once_and_resumes_it_later(studies: Studies) -> None:
    study = studies.open()
    with Journal(study.plan.folder) as journal:
        StudyRun(study, journal, [], COMMAND, [])
        assert not journal.started  # a StudyRun is created without writing
    for _ in range(2):
        study_run = start_run(study)
        with study_run.journal:
            study_run.end(TrialStatus.interrupted)
    kinds = [event["kind"] for event, _ in read_journal(study.plan.folder)]
    assert (kinds[0], kinds.count("start"), kinds.count("resume")) == ("start", 1, 1)
    assert (study.plan.folder / "command.txt").read_text() == f"{COMMAND}\n"


@pytest.mark.parametrize(
    ("direction", "best", "best_key", "baseline_key"),
    [
        ("maximize", [0.8, 0.85, 0.85], "val/best_accuracy", "val/baseline_accuracy"),
        ("minimize", [0.8, 0.8, 0.7], "val/lowest_loss", "val/baseline_loss"),
    ],
)
def test_a_studys_run_has_its_budget_its_best_value_and_its_baselines(
    studies: Studies, direction: str, best: list[float], best_key: str, baseline_key: str
) -> None:
    study = studies.open(settings=sweeper(direction=direction))
    study_run = start_run(study)
    with study_run.journal:
        for value in (0.8, 0.85, 0.7):
            train_trial(study, value)
            study_run.update()
    steps = history(study.plan.folder)
    assert steps[0] == {"n_trials": 10}
    assert [steps[step][best_key] for step in (1, 2, 3)] == best
    assert [steps[step][baseline_key] for step in (1, 2, 3)] == [0.8] * 3
    events = [event for event, _ in read_journal(study.plan.folder)]
    (params,) = [event["values"] for event in events if event["kind"] == "params"]
    assert params == {
        "model.name": "model1",
        "metric": study.settings.metric,
        "epochs": 3,
        "seed": 42,
        "data.sha256": "sha256",
    }
    tags = next(event["values"] for event in events if event["kind"] == "tags")
    assert {"team": "vision", "sampler": "random", "pruner": "none"}.items() <= tags.items()


def test_a_studys_description_has_its_trials_its_views_and_the_command_that_continues_it(
    studies: Studies,
) -> None:
    study = studies.open()
    train_trial(study, 0.8)
    with start_run(study).journal:
        pass
    text = description_of(study.plan.folder)
    assert text.strip().startswith("**1 of 10** trials of study.")
    assert f"](#/experiments/{markdown.EXPERIMENT_ID}/runs?" in text
    assert "| **1** | **baseline** | **complete** | **80.00%** |" in text
    assert text.endswith(markdown.code(COMMAND))


def test_the_description_begins_with_the_verdict_and_keeps_it_when_the_study_is_resumed(
    studies: Studies,
) -> None:
    study = studies.open()
    for value in (0.8, 0.85):
        train_trial(study, value)
    study_run = start_run(study)
    with study_run.journal:
        study_run.write_report(["model1, 2 trials", "Trial 1 has 85.00%."], {}, 1, None, 2)
        study_run.end(TrialStatus.complete)
    description = description_of(study.plan.folder)
    assert description.startswith(
        "model1, 2 trials\n\n- Trial 1 has 85.00%.\n\n**2 of 10** trials of study.\n"
    )
    assert markdown.picture("history.png") in description
    resumed = start_run(study)
    with resumed.journal:
        resumed.update()
    assert description_of(study.plan.folder) == description


@pytest.mark.parametrize(
    ("n_trials", "counts"), [(3, "**2 of 3**"), (2, "**2 of 2**"), (1, "**2 of 2**")]
)
def test_the_description_counts_the_trials_of_the_search_without_its_confirmation(
    studies: Studies, n_trials: int, counts: str
) -> None:
    settings = replace(sweeper(), confirm=fixed_seeds(2))
    study = studies.open(settings=settings)
    for value in (0.8, 0.85):
        train_trial(study, value)
    study = studies.open(studies.plan(n_trials=n_trials), settings)
    plan = plan_confirmation(study, fixed_seeds(2))
    assert plan is not None
    confirmation = ConfirmationStudy(plan, study.settings, studies.opened[-1], 1)
    for value in (0.8, 0.85, 0.81, 0.84):
        train_trial(confirmation, value)
    study_run = start_run(study)
    with study_run.journal:
        study_run.update()
    assert f"{counts} trials of study." in description_of(study.plan.folder)


def test_the_report_shows_which_confusions_differ_from_the_baselines(studies: Studies) -> None:
    study = studies.open()
    for value in (0.8, 0.85):
        train_trial(study, value)
    counts = np.diag(np.full(10, 100.0))
    counts[3, 5] = 9
    confusions = ConfusionMatrices(counts, np.diag(np.full(10, 100.0)), 5)
    study_run = start_run(study)
    with study_run.journal:
        study_run.write_report(["", confusions.sentence()], {}, 1, confusions, 2)
    folder = study.plan.folder
    assert "fewer images of 3 for 5 (0 instead of 9); means of 5 runs" in description_of(folder)
    assert markdown.picture("confusion_difference.png") in description_of(folder)
    assert (folder / "confusion_difference.png").stat().st_size > 10_000
    assert "confusion_difference.png" in {event.get("path") for event, _ in read_journal(folder)}
    assert "Which digits the best config takes for which" in (folder / "report.html").read_text()


def raced(max_seeds: int) -> Race:
    baseline = dict(enumerate([0.80, 0.81, 0.79]))
    gains = (0.05, 0.052, 0.048)
    results = {0: baseline, 1: {seed: value + gains[seed] for seed, value in baseline.items()}}
    rules = RaceRules(range(max_seeds), fixed=False, margin=0.005, maximize=True)
    return hold_race(results, [1], rules)


def test_a_later_report_of_the_same_trials_replaces_the_metrics_and_the_race(
    studies: Studies,
) -> None:
    confirm = ConfirmConfig(candidates=3, max_seeds=8, margin=0.005, seeds=None)
    study = studies.open(settings=replace(sweeper(), confirm=confirm))
    for value in (0.8, 0.85):
        train_trial(study, value)
    folder = study.plan.folder
    for low, max_seeds in ((0.01, 8), (0.02, 16)):
        race = raced(max_seeds)
        study_run = start_run(study)
        with study_run.journal:
            study_run.write_report([""], {"confirmed/low": low}, 1, None, 5, race)
        assert history(folder)[5]["confirmed/low"] == low
        assert history(folder)[3]["race/trial_1/low"] == race.looks[1][0].low
        assert markdown.picture("race.png") in description_of(folder)
    study_run = start_run(study)
    with study_run.journal:
        study_run.write_report([""], {}, 1, None, 5)
    assert markdown.picture("race.png") not in description_of(folder)


def test_a_report_with_a_confirmed_difference_has_a_verdict(studies: Studies) -> None:
    study = studies.open()
    train_trial(study, 0.8)
    study_run = start_run(study)
    with study_run.journal:
        assert not study_run.has_verdict()
        study_run.write_report([""], {"confirmed/difference": 0.01}, 0, None, 1)
        assert study_run.has_verdict()


@pytest.mark.parametrize(
    ("best", "recommended", "names"),
    [
        (None, None, []),
        (1, None, ["The best trial again"]),
        (1, 1, ["The recommended config again"]),
        (1, 0, ["The recommended config again", "The best trial again, which is not recommended"]),
    ],
)
def test_the_command_of_the_recommended_config_comes_first(
    studies: Studies, best: int | None, recommended: int | None, names: list[str]
) -> None:
    study = studies.open()
    for value in (0.8, 0.85):
        train_trial(study, value)
    study_run = start_run(study)
    with study_run.journal:
        commands = study_run.commands(best, recommended)
    assert list(commands) == names
    baseline_rate = "training.learning_rate=0.001 "
    recommends_baseline = recommended == 0
    assert [baseline_rate in command for command in commands.values()][:1] == (
        [recommends_baseline] if names else []
    )


def test_views_have_the_explored_params_without_the_groups_of_conf(studies: Studies) -> None:
    study = studies.open()
    study_run = StudyRun.start(study, [*study.plan.space, "training"], COMMAND, [])
    with study_run.journal:
        study_run.update()
    (board,) = [
        event["state"]
        for event, _ in read_journal(study.plan.folder)
        if "leaderboard" in event.get("key", "")
    ]
    assert "params.`training.learning_rate`" in board
    assert "params.`training`" not in board


def test_the_matrices_are_those_of_the_ten_best_trials(studies: Studies) -> None:
    study = studies.open(studies.plan(n_trials=12))
    for value in range(12):
        train_trial(study, value / 100)
    with start_run(study).journal:
        pass
    (matrices,) = [
        event["state"]
        for event, _ in read_journal(study.plan.folder)
        if "matrices" in event.get("key", "")
    ]
    assert "and metrics.`val/best_accuracy` >= 0.02" in matrices


def test_the_leaderboard_has_an_interrupted_trial_and_its_continuation(studies: Studies) -> None:
    study = studies.open()
    train_trial(study, 0.8)
    board = study.plan.folder / "leaderboard.md"
    study_run = start_run(study)
    with study_run.journal:
        pending = study.ask()
        assert pending is not None
        study.report(pending.number, 1, 0.6)
        study.interrupt(pending.number)
        study_run.update()
        assert "|  | trial 1 | interrupted |  |  |  | 1 |" in board.read_text()
        study.ask()
        study_run.update()
        assert "| trial 1 | running |" in board.read_text()
