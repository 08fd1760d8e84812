"""What a sweep prints before its first trial starts."""

import pytest
from studies import Studies, train, write

from svhn_sweep.sweep.terminal.plan_tables import print_continued


def test_a_new_study_does_not_continue(
    studies: Studies, capsys: pytest.CaptureFixture[str]
) -> None:
    print_continued([studies.open()])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("epochs", "line"),
    [
        ([], "study continues: 1 of 10 trials finished"),
        ([2], "study continues: 1 of 10 trials finished; trial 1 after epoch 2"),
        (
            [2, 0],
            "study continues: 1 of 10 trials finished; trial 1 after epoch 2; "
            "trial 2 in its first epoch",
        ),
    ],
)
def test_a_continued_study_prints_its_finished_and_its_interrupted_trials(
    studies: Studies, capsys: pytest.CaptureFixture[str], epochs: list[int], line: str
) -> None:
    study = studies.open()
    train(study, 0.8)
    for count in epochs:
        pending = study.ask()
        assert pending is not None
        write(study, pending.number, *[0.5] * count)
    print_continued([studies.open()])
    assert capsys.readouterr().out == f"{line}\n"
