import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Quote, QuotedString
from hydra.errors import HydraException

from svhn_sweep.sweep.grammar import with_null


@pytest.mark.parametrize(
    ("override", "rewritten"),
    [
        ("key=choice(null,1)", "key=null,1"),
        ("key=choice(1,null)", "key=1,null"),
        ("key=choice(1, null, 2)", "key=1, null, 2"),
        ("a.b=choice( null , 1 )", "a.b= null , 1 "),
        ("a/b=choice(null,x)", "a/b=null,x"),
        ("+key=choice(null,1)", "+key=null,1"),
        ("key= choice(null,1) ", "key=null,1"),
        ("key=choice(null)", "key=null"),
    ],
)
def test_a_choice_with_null_is_a_list_of_values(override: str, rewritten: str) -> None:
    assert with_null(override) == rewritten


@pytest.mark.parametrize(
    "override",
    [
        "key=null,1",
        "key=null",
        "key=choice(1,2)",
        "key=choice(nullable,1)",
        "key=choice(annull,1)",
        "key=choice('null',1)",
        "key=interval(0,1)",
        "key=sort(choice(1,2))",
        "key=[null,1]",
        "optuna",
        "-m",
        "--config-dir=choice(here)",
    ],
)
def test_anything_else_stays(override: str) -> None:
    assert with_null(override) == override


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("choice(null,1)", [None, 1]),
        ("choice(0.5, null)", [0.5, None]),
        ("choice(a, null, 'b,c')", ["a", None, QuotedString("b,c", Quote.single)]),
    ],
)
def test_hydra_takes_what_it_refused(text: str, values: list[object]) -> None:
    parser = OverridesParser.create()
    with pytest.raises(HydraException, match="NoneType is incompatible"):
        parser.parse_override(f"key={text}")
    value = parser.parse_override(with_null(f"key={text}")).value()
    assert isinstance(value, ChoiceSweep)
    assert value.list == values
