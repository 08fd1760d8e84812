"""What a sweep prints at its end, in a terminal and elsewhere."""

import io
from dataclasses import replace

import pytest
from rich.console import Console
from studies import Studies, compare, sweeper, train

from svhn_sweep import console as console_module
from svhn_sweep.sweep.report.summary import Summary
from svhn_sweep.sweep.selection.champion import Candidate
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.terminal import results
from svhn_sweep.sweep.terminal.results import print_summaries, print_table

WORDS = "Over 3 fresh seeds trial 1 has 80.00% and the baseline 80.00%: undecided"
COMMAND = "python -m svhn_sweep model=model1 training.learning_rate=0.0031237283001928984"
SUMMARY = Summary(
    "model1, 2 trials: undecided",
    [WORDS],
    {"The recommended config again": COMMAND, "The best trial again, not recommended": "other"},
)


@pytest.fixture
def study(studies: Studies) -> Study:
    study = studies.open(settings=sweeper())
    for value in (0.8, 0.85):
        train(study, value)
    return study


def capture(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, width: int) -> io.StringIO:
    """Captures what `console` prints from now on."""
    file = io.StringIO()
    console = Console(
        file=file, force_terminal=terminal, width=width, soft_wrap=True, highlight=False
    )
    for module in (console_module, results):
        monkeypatch.setattr(module, "console", console)
    return file


@pytest.mark.parametrize(
    ("terminal", "width", "lines"),
    [
        (False, 40, [WORDS]),
        (True, 80, [WORDS]),
        (
            True,
            40,
            ["Over 3 fresh seeds trial 1 has 80.00%", "and the baseline 80.00%: undecided"],
        ),
    ],
)
def test_only_a_terminal_wraps_sentences_between_words_and_no_command(
    monkeypatch: pytest.MonkeyPatch, study: Study, terminal: bool, width: int, lines: list[str]
) -> None:
    file = capture(monkeypatch, terminal=terminal, width=width)
    print_summaries([study], [SUMMARY])
    assert file.getvalue().splitlines() == [
        *lines,
        "",
        "The recommended config again:",
        COMMAND,
        "",
        "model1, 2 trials: undecided",
    ]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("sync sends what MLflow lacks", ["sync sends what MLflow", "lacks"]),
        ("it lacks some: `sync FOLDER` sends it", ["it lacks some:", "`sync FOLDER` sends it"]),
        (
            "so: `sync outputs multirun again` it is",
            ["so:", "`sync outputs multirun again`", "it is"],
        ),
        ("see /a/path/longer/than/the/line", ["see", "/a/path/longer/than/the/line"]),
    ],
)
def test_a_terminal_wraps_no_command_and_no_path(
    monkeypatch: pytest.MonkeyPatch, text: str, lines: list[str]
) -> None:
    file = capture(monkeypatch, terminal=True, width=24)
    console_module.print_text(text)
    assert file.getvalue().splitlines() == lines


def test_lines_of_several_studies_begin_with_their_names(
    monkeypatch: pytest.MonkeyPatch, study: Study
) -> None:
    file = capture(monkeypatch, terminal=False, width=80)
    print_summaries([study, study], [SUMMARY, SUMMARY])
    assert file.getvalue().count(f"study: {WORDS}\n") == 2
    assert file.getvalue().count("study: The recommended config again:\n") == 2


@pytest.mark.parametrize(
    ("direction", "header"), [("maximize", "points"), ("minimize", "difference")]
)
def test_the_table_heads_the_difference_and_names_a_single_study_above(
    monkeypatch: pytest.MonkeyPatch, studies: Studies, direction: str, header: str
) -> None:
    study = studies.open(settings=sweeper(direction=direction))
    train(study, 0.8)
    train(study, 0.7)
    verdict = compare((0.80, 0.81, 0.79), (0.81, 0.79, 0.80), maximize=True)
    file = capture(monkeypatch, terminal=True, width=80)
    print_table([study], [Candidate(study, 1, {1: verdict}, {})])
    title, _, head, *_ = file.getvalue().splitlines()
    assert f"study: {study.settings.metric}" in title
    assert header in head
    assert "study" not in head


def test_the_table_of_several_studies_has_their_whole_names(
    monkeypatch: pytest.MonkeyPatch, studies: Studies
) -> None:
    study = studies.open(settings=sweeper())
    study.plan = replace(study.plan, name="model1-0123456789abcdef")
    file = capture(monkeypatch, terminal=True, width=80)
    print_table([study, study], [None, None])
    assert file.getvalue().count("model1-0123456789abcdef") == 2
