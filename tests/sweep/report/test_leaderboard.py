import csv
import math
from typing import Any, Literal

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from svhn_sweep.config.short_names import short_names
from svhn_sweep.sweep.plan.formatting import format_metric
from svhn_sweep.sweep.report import leaderboard

SPACE = {
    "training.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    "model.dropout": FloatDistribution(0.0, 0.6),
    "model.filters.conv1": IntDistribution(8, 32, step=8),
}


def trial(
    optuna_state: TrialState, *by_epoch: float, value: float | None = None, **attrs: Any
) -> FrozenTrial:
    return create_trial(
        state=optuna_state,
        value=value,
        params={
            "training.learning_rate": 1.234e-3,
            "model.dropout": 0.25,
            "model.filters.conv1": 16,
        },
        distributions=SPACE,
        intermediate_values=dict(enumerate(by_epoch, start=1)),
        user_attrs=attrs,
    )


def study_of(
    *trials: FrozenTrial, direction: Literal["maximize", "minimize"] = "maximize"
) -> optuna.Study:
    study = optuna.create_study(direction=direction)
    study.add_trials(trials)
    return study


@pytest.fixture
def study() -> optuna.Study:
    """A study with a trial of every status, in an order that is not the leaderboard's."""
    return study_of(
        trial(
            TrialState.COMPLETE,
            0.5,
            0.8,
            value=0.8,
            state="complete",
            seconds=61.5,
            parameters=69_674,
            multiply_adds=4_213_000,
        ),
        trial(TrialState.FAIL, 0.99, state="failed", reason="<b>no</b> memory | at\nepoch 2"),
        trial(TrialState.FAIL, 0.9, math.nan, state="diverged", reason="the loss is nan"),
        trial(TrialState.PRUNED, 0.95, 0.6, value=0.6, state="pruned"),
        trial(TrialState.RUNNING, 0.4),
        trial(TrialState.COMPLETE, 0.9, 0.85, value=0.9, state="complete"),
        trial(TrialState.WAITING),
        trial(TrialState.PRUNED, 0.97, 0.5, value=0.5, state="pruned"),
        trial(TrialState.COMPLETE, 0.7, 0.9, value=0.9, state="complete"),
        trial(TrialState.COMPLETE, 0.7, value=0.7, state="complete"),
    )


def test_rows_are_ordered_by_status_value_and_number(study: optuna.Study) -> None:
    no_result = (None, None, None)
    table = [
        (
            row.rank,
            row.name,
            row.state,
            row.value,
            None if row.delta is None else round(row.delta, 9),
            row.best_epoch,
            row.epochs,
        )
        for row in leaderboard.make_rows(study)
    ]
    assert table == [
        (1, "trial 5", "complete", 0.9, 0.1, 1, 2),
        (2, "trial 8", "complete", 0.9, 0.1, 2, 2),
        (3, "baseline", "complete", 0.8, 0.0, 2, 2),
        (4, "trial 9", "complete", 0.7, -0.1, 1, 1),
        (None, "trial 7", "pruned", 0.97, None, 1, 2),
        (None, "trial 3", "pruned", 0.95, None, 1, 2),
        (None, "trial 1", "failed", *no_result, 1),
        (None, "trial 2", "diverged", *no_result, 2),
        (None, "trial 4", "running", *no_result, 1),
    ]


@pytest.mark.parametrize(
    ("frozen", "expected"),
    [
        (trial(TrialState.PRUNED, state="pruned", value=0.1), ("pruned", None, 0)),
        (
            trial(TrialState.PRUNED, math.nan, 0.9, 0.7, state="pruned", value=0.7),
            ("pruned", 0.7, 3),
        ),
        (trial(TrialState.PRUNED, 0.9, state="diverged", value=0.9), ("diverged", None, 1)),
        (trial(TrialState.FAIL), ("failed", None, 0)),
        (trial(TrialState.FAIL, 0.9, state="complete"), ("failed", None, 1)),
        (trial(TrialState.FAIL, 0.9, state="interrupted"), ("interrupted", None, 1)),
        (trial(TrialState.COMPLETE, value=math.inf, state="complete"), ("failed", None, 0)),
        (trial(TrialState.COMPLETE, value=0.3), ("complete", 0.3, 0)),
    ],
)
def test_a_row_has_the_status_value_and_epochs_of_its_trial(
    frozen: FrozenTrial, expected: tuple[str, float | None, int]
) -> None:
    (row,) = leaderboard.make_rows(study_of(frozen, direction="minimize"))
    assert (row.state, row.value, row.epochs) == expected
    assert (row.rank, row.delta) == ((1, 0.0) if row.state == "complete" else (None, None))


def test_a_pruned_trial_without_a_value_comes_after_those_with_one() -> None:
    trials = [
        trial(TrialState.PRUNED),
        trial(TrialState.PRUNED, 0.4, value=0.4),
        trial(TrialState.PRUNED, 0.2),
    ]
    rows = leaderboard.make_rows(study_of(*trials, direction="minimize"))
    assert [row.number for row in rows] == [2, 1, 0]


def test_without_a_complete_baseline_there_are_no_deltas() -> None:
    rows = leaderboard.make_rows(
        study_of(trial(TrialState.FAIL), trial(TrialState.COMPLETE, value=0.9))
    )
    assert [(row.name, row.rank, row.delta) for row in rows] == [
        ("trial 1", 1, None),
        ("baseline", None, None),
    ]


def test_csv_has_unrounded_numbers(study: optuna.Study) -> None:
    lines = list(
        csv.DictReader(leaderboard.to_csv(leaderboard.make_rows(study)).splitlines(keepends=True))
    )
    assert list(lines[0])[-3:] == list(SPACE)
    assert [line["rank"] for line in lines] == ["1", "2", "3", "4", *[""] * 5]
    assert float(lines[0]["delta"]) == 0.9 - 0.8
    assert lines[2]["name"] == "baseline"
    assert (lines[2]["seconds"], lines[2]["parameters"]) == ("61.5", "69674")
    assert (lines[2]["multiply_adds"], lines[2]["seconds_per_1000_images"]) == ("4213000", "")
    assert lines[2]["training.learning_rate"] == "0.001234"
    assert lines[6]["reason"] == "<b>no</b> memory | at\nepoch 2"


def test_markdown_is_a_table_with_the_baseline_in_bold(study: optuna.Study) -> None:
    header, rules, *lines = leaderboard.to_markdown(
        leaderboard.make_rows(study), "val/accuracy"
    ).splitlines()
    assert header == (
        "| rank | trial | state | val/accuracy | vs baseline | best epoch | epochs | training time "
        "| parameters | multiply-adds | learning_rate | dropout | conv1 | reason |"
    )
    assert set(rules) <= set("|-: ")
    assert (
        lines[0]
        == "| 1 | trial 5 | complete | 90.00% | +10.00 | 1 | 2 |  |  |  | 1.23e-03 | 0.25 | 16 |  |"
    )
    bold = [
        "3",
        "baseline",
        "complete",
        "80.00%",
        "+0.00",
        "2",
        "2",
        "62 s",
        "69,674",
        "4.2 M",
        "1.23e-03",
        "0.25",
        "16",
    ]
    assert lines[2] == f"| {' | '.join(f'**{cell}**' for cell in bold)} |  |"
    assert lines[6].endswith(r"| &lt;b&gt;no&lt;/b&gt; memory \| at epoch 2 |")
    assert {line.replace(r"\|", "").count("|") for line in lines} == {header.count("|")}


@pytest.mark.parametrize(("limit", "names", "last"), [
    (1, ["trial 5", "**baseline**"], "and 7 more trials"),
    (8, None, "and 1 more trial"),
    (9, None, None),
    (None, None, None),
])  # fmt: skip
def test_the_baseline_is_listed_beyond_the_limit(
    study: optuna.Study, limit: int | None, names: list[str] | None, last: str | None
) -> None:
    lines = leaderboard.to_markdown(
        leaderboard.make_rows(study), "val/accuracy", limit
    ).splitlines()
    if names:
        assert [line.split(" | ")[1] for line in lines if "complete" in line] == names
    assert (lines[-1] == last) if last else lines[-1].startswith("|")


@pytest.mark.parametrize(
    ("value", "metric", "sign", "text"),
    [
        (0.90123, "val/accuracy", "", "90.12%"),
        (0.00421, "val/accuracy", "+", "+0.42"),
        (-0.00421, "val/accuracy", "+", "-0.42"),
        (-0.00001, "val/accuracy", "+", "+0.00"),
        (0.90123, "val/loss", "", "0.9012"),
        (0.0042, "val/loss", "+", "+0.0042"),
        (None, "val/loss", "", ""),
    ],
)
def test_accuracies_are_formatted_as_percent_and_losses_as_numbers(
    value: float | None, metric: str, sign: str, text: str
) -> None:
    assert format_metric(value, metric, sign) == text


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (["training.learning_rate", "model.filters.conv1"], ["learning_rate", "conv1"]),
        (["a.rate", "b.rate", "b.c.size", "d.size"], ["a.rate", "b.rate", "c.size", "d.size"]),
        (["model.time", "model.kind"], ["model.time", "kind"]),
        (["rate"], ["rate"]),
        (
            ["training.augmentation.enabled", "training.reduce_on_plateau.enabled"],
            ["augmentation", "reduce_on_plateau"],
        ),
    ],
)
def test_names_are_the_shortest_unique_endings_of_keys(keys: list[str], names: list[str]) -> None:
    assert list(short_names(keys, reserved=["time"]).values()) == names


def test_a_study_without_trials_is_an_empty_table() -> None:
    assert leaderboard.make_rows(study_of()) == []
    assert leaderboard.to_csv([]).count("\n") == 1
    assert leaderboard.to_markdown([], "val/accuracy").count("\n") == 2
