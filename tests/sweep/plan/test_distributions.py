import random

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import RandomSampler, TPESampler
from optuna.study import create_study

from svhn_sweep.config.overrides import Value, to_override
from svhn_sweep.errors import ConfigError
from svhn_sweep.sweep.plan.distributions import (
    format_distribution,
    snap_to_step,
    to_distribution,
)


def parsed(text: str, key: str = "key") -> Override:
    return OverridesParser.create().parse_override(f"{key}={text}")


def one_of(*choices: Value) -> BaseDistribution:
    return CategoricalDistribution(choices)


ACCEPTED: list[tuple[str, Value, BaseDistribution]] = [
    # values to choose from keep their types
    ("choice(8,16)", 8, one_of(8, 16)),
    ("8,16", 8, one_of(8, 16)),
    ("1e-3,1e-2", 0.001, one_of(0.001, 0.01)),
    ("true,false", False, one_of(True, False)),
    ("null,true", None, one_of(None, True)),
    ("a,'b c',\"1\"", "a", one_of("a", "b c", "1")),
    ("choice(float32,mixed_bfloat16)", "float32", one_of("float32", "mixed_bfloat16")),
    ("choice(null1,1,0.5,true2)", 0.5, one_of("null1", 1.0, 0.5, "true2")),
    # to a float, integers are floats
    ("choice(0,0.5)", 0.5, one_of(0.0, 0.5)),
    ("choice(0,1)", 0.0, one_of(0.0, 1.0)),
    ("choice(0,1)", False, one_of(0, 1)),
    # what Hydra's functions make of a choice
    ("int(choice('8',16.0))", 8, one_of(8, 16)),
    ("int('8',16.0)", 8, one_of(8, 16)),
    ("float(choice(1,2))", 1.0, one_of(1.0, 2.0)),
    ("str(choice(1,2))", "1", one_of("1", "2")),
    ("bool(choice(0,1))", True, one_of(False, True)),
    ("sort(3,1,2)", 2, one_of(1, 2, 3)),
    ("sort(choice(1,2),reverse=True)", 2, one_of(2, 1)),
    ("shuffle(choice(1,2,3,4,5,6,7,8))", 2, one_of(1, 2, 3, 4, 5, 6, 7, 8)),
    ("tag(log,choice(1,2))", 2, one_of(1, 2)),
    # a range excludes its end
    ("range(5)", 0, IntDistribution(0, 4)),
    ("range(8,33,8)", 16, IntDistribution(8, 32, step=8)),
    ("range(8,32,8)", 16, IntDistribution(8, 24, step=8)),
    ("range(8,35,8)", 16, IntDistribution(8, 32, step=8)),
    ("range(-2,3)", 0, IntDistribution(-2, 2)),
    ("range(true,4)", 2, IntDistribution(1, 3)),
    ("range(1,4)", 2.0, IntDistribution(1, 3)),
    ("range(0.1,0.5,0.1)", 0.3, FloatDistribution(0.1, 0.4, step=0.1)),
    ("range(0,0.9,0.3)", 0.6, FloatDistribution(0.0, 0.6, step=0.3)),
    ("range(0,0.95,0.3)", 0.1 + 0.2, FloatDistribution(0.0, 0.9, step=0.3)),
    ("range(1,3,0.5)", 1.5, FloatDistribution(1.0, 2.5, step=0.5)),
    ("float(range(1,4))", 2.0, FloatDistribution(1.0, 3.0, step=1.0)),
    ("int(range(1.0,4.0))", 2, IntDistribution(1, 3)),
    ("sort(range(4,0,-1))", 2, IntDistribution(1, 4)),
    ("shuffle(range(8,33,8))", 16, IntDistribution(8, 32, step=8)),
    ("tag(log,range(1,101))", 10, IntDistribution(1, 100, log=True)),
    # an interval includes both ends
    ("interval(0,0.6)", 0.6, FloatDistribution(0.0, 0.6)),
    ("interval(0,0.6)", 0.0, FloatDistribution(0.0, 0.6)),
    ("interval(1,2)", 1.5, FloatDistribution(1.0, 2.0)),
    ("interval(16,64)", 32, IntDistribution(16, 64)),
    ("interval(16,64)", 64, IntDistribution(16, 64)),
    ("int(interval(16.0,64.0))", 32, IntDistribution(16, 64)),
    ("int(interval(0.5,2.5))", 1, IntDistribution(0, 2)),
    ("float(interval(1,2))", 1.0, FloatDistribution(1.0, 2.0)),
    ("tag(log,interval(1e-4,1e-2))", 1e-3, FloatDistribution(1e-4, 1e-2, log=True)),
    ("tag(log,interval(1,100))", 10, IntDistribution(1, 100, log=True)),
    ("tag(log,int(interval(1,100)))", 10, IntDistribution(1, 100, log=True)),
    ("int(tag(log,interval(1,100)))", 10, IntDistribution(1, 100, log=True)),
]


@pytest.mark.parametrize(("text", "baseline", "expected"), ACCEPTED)
def test_a_sweep_override_becomes_a_distribution(
    text: str, baseline: Value, expected: BaseDistribution
) -> None:
    random.seed(0)  # Hydra shuffles with it
    space = to_distribution(parsed(text), baseline)
    assert space == expected
    assert repr(space) == repr(expected)  # 1, 1.0 and True are equal


REJECTED: list[tuple[str, Value, str]] = [
    # not a space
    (
        "5",
        5,
        "key must be choice(...), values between commas, range(...) or interval(...) but got 5.",
    ),
    (
        "glob(*)",
        "a",
        "key must be choice(...), values between commas, "
        "range(...) or interval(...) but got glob(*).",
    ),
    # not what Optuna can draw from
    (
        "choice([1],[2])",
        1,
        "key must be chosen among strings, numbers, booleans and null but got choice([1],[2]).",
    ),
    ("{a:1},2", 2, "key must be chosen among strings, numbers, booleans and null but got {a:1},2."),
    (
        "interval(1,2),3",
        3,
        "key must be chosen among strings, numbers, booleans and null but got interval(1,2),3.",
    ),
    ("choice(1,2,1)", 1, "key must have each value once but got choice(1,2,1)."),
    ("choice(1,true)", 1, "key must have each value once but got choice(1,true)."),
    ("choice(1,1.0)", 1.0, "key must have each value once but got choice(1,1.0)."),
    ("range(5,1,-1)", 2, "key must have a step greater than 0 but got range(5,1,-1)."),
    ("range(1,5,0)", 2, "key must have a step greater than 0 but got range(1,5,0)."),
    ("range(0,1,0.0)", 0.0, "key must have a step greater than 0 but got range(0,1,0.0)."),
    ("range(1,inf)", 2.0, "key must have finite bounds and a finite step but got range(1,inf)."),
    (
        "range(0,1,nan)",
        0.5,
        "key must have finite bounds and a finite step but got range(0,1,nan).",
    ),
    ("interval(nan,1)", 0.5, "key must have finite bounds but got interval(nan,1)."),
    ("interval(0,inf)", 0.5, "key must have finite bounds but got interval(0,inf)."),
    (
        "interval(3,1)",
        2.0,
        "key must have a lower bound less than the upper but got interval(3,1).",
    ),
    # what has no logarithm
    (
        "tag(log,interval(0,1))",
        0.5,
        "key must have a lower bound greater than 0 for log but got tag(log,interval(0,1)).",
    ),
    (
        "tag(log,interval(-1,1))",
        1,
        "key must have a lower bound greater than 0 for log but got tag(log,interval(-1,1)).",
    ),
    (
        "tag(log,range(5))",
        1,
        "key must be integers above 0 in steps of 1 for log but got tag(log,range(5)).",
    ),
    (
        "tag(log,range(1,9,2))",
        1,
        "key must be integers above 0 in steps of 1 for log but got tag(log,range(1,9,2)).",
    ),
    (
        "tag(log,range(1,9.0))",
        1.0,
        "key must be integers above 0 in steps of 1 for log but got tag(log,range(1,9.0)).",
    ),
    # fewer than two points
    ("choice(x)", "x", "key must have at least two values but got choice(x)."),
    ("range(1,2)", 1, "key must have at least two values but got range(1,2)."),
    ("range(1,3,5)", 1, "key must have at least two values but got range(1,3,5)."),
    ("range(5,1)", 2, "key must have at least two values but got range(5,1)."),
    ("range(0,0.1,0.1)", 0.0, "key must have at least two values but got range(0,0.1,0.1)."),
    ("interval(3,3)", 3, "key must have a lower bound less than the upper but got interval(3,3)."),
    (
        "int(interval(1.2,1.8))",
        1,
        "key must have a lower bound less than the upper but got int(interval(1.2,1.8)).",
    ),
    # floats where the config has an integer
    *(
        (
            text,
            8,
            "key must be searched in integers like the baseline's 8, "
            f"for example with int(...), but got {text}.",
        )
        for text in ("interval(8,16.5)", "range(8,33.0,8)", "choice(8,16.0)")
    ),
    # the baseline elsewhere
    *(
        (
            text,
            baseline,
            f"key: the baseline's {value} must be in its own search space but that is {text}.",
        )
        for text, baseline, value in (
            ("choice(0.2, 0.3)", 0.5, "0.5"),
            ("choice(1,2)", "1", "'1'"),
            ("choice('null',a)", None, "null"),
            ("range(8,32,8)", 32, "32"),
            ("range(8,32,8)", 12, "12"),
            ("range(1,4)", 1.5, "1.5"),
            ("range(0,1,0.1)", 0.25, "0.25"),
            ("range(0,1,0.1)", 1.0, "1.0"),
            ("interval(0,0.6)", 0.7, "0.7"),
            ("interval(0,0.6)", None, "null"),
            ("interval(0,1)", True, "true"),
            ("interval(0,0.6)", "half", "half"),
            ("tag(log,interval(1e-4,1e-2))", 0.0, "0.0"),
        )
    ),
]


@pytest.mark.parametrize(("text", "baseline", "message"), REJECTED)
def test_an_invalid_search_space_is_refused(text: str, baseline: Value, message: str) -> None:
    with pytest.raises(ConfigError, match=r"^key") as caught:
        to_distribution(parsed(text), baseline)
    assert str(caught.value) == message


def test_the_message_names_the_key() -> None:
    with pytest.raises(ConfigError, match=r"^model\.dropout: the baseline's 0\.5 must be in"):
        to_distribution(parsed("choice(0.2,0.3)", key="model.dropout"), 0.5)


@pytest.mark.parametrize("sampler", [RandomSampler(seed=1), TPESampler(seed=1)])
def test_drawn_stepped_floats_snap_to_exact_steps(sampler: RandomSampler | TPESampler) -> None:
    space = to_distribution(parsed("range(0.1,1,0.1)"), 0.5)
    study = create_study(sampler=sampler)
    drawn = set()
    for _ in range(60):
        trial = study.ask({"key": space})
        drawn.add(snap_to_step(space, trial.params["key"]))
        study.tell(trial, 0.0)
    assert drawn == {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9}


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (FloatDistribution(0.0, 1.0), 0.1 + 0.2),
        (IntDistribution(8, 32, step=8), 24),
        (one_of("a", None), None),
    ],
)
def test_values_of_other_distributions_stay(space: BaseDistribution, value: Value) -> None:
    assert snap_to_step(space, value) is value


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 0, -3, 10**20),
        *(0.0, 1.0, 0.1, 0.1 + 0.2, 1e-05, 1e16, 5e-324, -2.5e-7),
        *("word", "a/path-1.h5", "a b", "x,y", "k=v", "a:b", "[1]", "{a: 1}", "f(x)", "#", " ", ""),
        *("null", "NULL", "true", "False", "1", "1_000", "-1", "1e5", ".5", "inf", "NaN"),
        *(
            "it's",
            'say "it\'s"',
            "back\\slash\\",
            "\\'",
            "${x}",
            "$x",
            r"\${x}",
            "two\nlines",
            "\N{DIGIT THREE}",
        ),
    ],
)
def test_hydra_parses_an_override_back_to_the_same_value(value: Value) -> None:
    override = OverridesParser.create().parse_override(to_override("model.key", value))
    # OmegaConf removes the backslash from \${.
    value_parsed = OmegaConf.create({"key": override.value()})["key"]
    assert (override.key_or_group, override.is_sweep_override()) == ("model.key", False)
    assert (type(value_parsed), value_parsed) == (type(value), value)


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (FloatDistribution(1e-4, 1e-2, log=True), "1e-04 to 1e-02, log"),
        (FloatDistribution(2.5e-4, 3, log=True), "2.5e-04 to 3e+00, log"),
        (IntDistribution(1, 100, log=True), "1 to 100, log"),
        (FloatDistribution(0, 0.6), "0 to 0.6"),
        (FloatDistribution(0.1, 0.4, step=0.1), "0.1 to 0.4 in steps of 0.1"),
        (FloatDistribution(1, 3, step=1), "1 to 3 in steps of 1"),
        (IntDistribution(16, 64), "16 to 64"),
        (IntDistribution(8, 32, step=8), "8 to 32 in steps of 8"),
        (one_of(0.1, 0.2), "one of 0.1, 0.2"),
        (one_of("1", 1, "a b", None, False), "one of '1', 1, 'a b', null, false"),
    ],
)
def test_a_distribution_is_formatted(space: BaseDistribution, text: str) -> None:
    assert format_distribution(space) == text
