"""How the comparison of a grid's configs is printed and written."""

import io

import pytest
from rich.console import Console

from svhn_sweep.grid import tables
from svhn_sweep.grid.comparison import compare


@pytest.mark.parametrize("config", ["path /d/a [v2].h5", "path [/b]", "dropout 0.5"])
def test_the_terminal_shows_the_names_of_configs_as_they_are(config: str) -> None:
    text = io.StringIO()
    console = Console(file=text, width=200)
    console.print(tables.to_terminal(compare({config: {1: 0.5}}, {})))
    assert config in text.getvalue()


def test_a_config_is_shown_with_the_number_of_seeds_that_diverged() -> None:
    rows = compare({"first": {1: 0.5, 2: 0.5}, "other": {1: 0.6, 2: 0.7}}, {"other": 3})
    assert "| other | 2 (3 diverged) | " in tables.to_markdown(rows)
    assert tables.to_csv(rows, {"first": {}, "other": {}}).splitlines()[2].startswith("other,2,3,")


def test_a_short_table_has_the_first_config_and_the_best_ones_in_their_order() -> None:
    accuracies = {str(number): {1: number / 100} for number in range(60)} | {"none": {}}
    rows = compare(accuracies, {})
    lines = tables.to_markdown(rows, 3).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:5]] == ["0", "58", "59"]
    assert lines[5:] == ["", "and 58 more configs"]
    assert len(tables.to_markdown(rows).splitlines()) == 63
