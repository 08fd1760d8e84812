"""A study's own run: what its description says, and what the runs of its trials learn from one
another.
"""

from pathlib import Path

import numpy as np
import pytest
from studies import Studies, train

from svhn_sweep.sweep.report.study_run import StudyRun
from svhn_sweep.sweep.selection.confusion_differences import ConfusionMatrices
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.tracking import markdown
from svhn_sweep.tracking.journal import Journal, history
from svhn_sweep.tracking.journal import read as journal_of
from svhn_sweep.trial_status import TrialStatus

COMMAND = "python -m svhn_sweep -m optuna"


def parent_of(study: Study) -> StudyRun:
    parent = StudyRun(study, list(study.plan.space), COMMAND, [])
    parent.update()
    return parent


def described(folder: Path) -> str:
    with Journal(folder) as journal:
        return journal.description


def trained(study: Study, *values: float, text: str = "Trained.") -> Path:
    """A trial, whose own description is `text`."""
    folder = study.plan.trial_dir(train(study, *values).number)
    if text:
        with Journal(folder) as journal:
            journal.set_note(text)
    return folder


@pytest.mark.parametrize(
    ("values", "text", "wanted"),
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
        ((0.80, 0.85), "", ""),  # one of an earlier version, which MLflow was told in another way
    ],
)
def test_a_trials_description_begins_with_its_distance_to_the_baseline(
    studies: Studies, values: tuple[float, float], text: str, wanted: str
) -> None:
    study = studies.open()
    folders = [trained(study, value, text=text) for value in values]
    for _ in range(2):  # a sweep that goes on says it once
        with parent_of(study).journal:
            pass
        assert [described(folder) for folder in folders] == [text, wanted]
    assert history(folders[1])[0]["delta_to_baseline"] == pytest.approx(values[1] - values[0])


def test_the_studys_description_has_its_trials_views_and_the_command_that_continues_it(
    studies: Studies,
) -> None:
    study = studies.open()
    trained(study, 0.8)
    with parent_of(study).journal:
        pass
    text = described(study.plan.folder)
    assert text.startswith("**1 of 10** trials of study.")
    assert f"](#/experiments/{markdown.EXPERIMENT_ID}/runs?" in text
    assert "| **1** | **baseline** | **complete** | **80.00%** |" in text
    assert text.endswith(markdown.code(COMMAND))


def test_what_was_found_stays_in_the_description_of_a_study_that_goes_on(studies: Studies) -> None:
    study = studies.open()
    for value in (0.8, 0.85):
        trained(study, value)
    parent = parent_of(study)
    with parent.journal:
        parent.report(["Trial 1 has 85.00%."], {}, 1, None, 2)
        parent.end(TrialStatus.complete)
    told = described(study.plan.folder)
    assert "- Trial 1 has 85.00%.\n" in told
    assert markdown.picture("history.png") in told
    again = parent_of(study)
    with again.journal:
        again.update()
    assert described(study.plan.folder) == told


def test_the_report_shows_what_the_best_config_confuses_otherwise(studies: Studies) -> None:
    study = studies.open()
    for value in (0.8, 0.85):
        trained(study, value)
    counts = np.diag(np.full(10, 100.0))
    counts[3, 5] = 9
    both, parent = ConfusionMatrices(counts, np.diag(np.full(10, 100.0)), 5), parent_of(study)
    with parent.journal:
        parent.report([both.sentence()], {}, 1, both, 2)
    folder = study.plan.folder
    assert "in the mean of 5 runs: fewer 3 for 5 (9 to 0)" in described(folder)
    assert markdown.picture("confusion_difference.png") in described(folder)
    assert (folder / "confusion_difference.png").stat().st_size > 10_000
    assert "confusion_difference.png" in {event.get("path") for event, _ in journal_of(folder)}
    assert "Which digits the best config takes for which" in (folder / "report.html").read_text()


def test_a_verdict_is_remembered(studies: Studies) -> None:
    study = studies.open()
    trained(study, 0.8)
    parent = parent_of(study)
    with parent.journal:
        assert not parent.has_verdict()
        parent.report([], {"confirmed/difference": 0.01}, 0, None, 1)
        assert parent.has_verdict()


def test_views_show_what_runs_have_as_params(studies: Studies) -> None:
    study = studies.open()
    with StudyRun(study, [*study.plan.space, "training"], COMMAND, []).journal:  # a group of conf/
        pass
    (board,) = [
        event["state"]
        for event, _ in journal_of(study.plan.folder)
        if "leaderboard" in event.get("key", "")
    ]
    assert "params.`training.learning_rate`" in board
    assert "params.`training`" not in board


def test_the_leaderboard_tells_of_an_interrupted_trial(studies: Studies) -> None:
    study = studies.open()
    trained(study, 0.8)
    board, parent = study.plan.folder / "leaderboard.md", parent_of(study)
    with parent.journal:
        assignment = study.ask()
        assert assignment is not None
        study.report(assignment.number, 1, 0.6)
        study.interrupt(assignment.number)
        parent.update()
        assert "|  | trial 1 | interrupted |  |  |  | 1 |" in board.read_text()
        study.ask()
        parent.update()
        assert "| trial 1 | running |" in board.read_text()
