import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from svhn_sweep.config.overrides import Value
from svhn_sweep.errors import ConfigError
from svhn_sweep.sweep.plan.distributions import to_distribution
from svhn_sweep.sweep.plan.make_space import conditions_of, make_space
from svhn_sweep.sweep.plan.search_space import Params, SearchSpace

BASELINE: dict[str, Value] = {
    "schedule": "constant",
    "patience": 3,
    "factor": 0.5,
    "augmentation": False,
    "shift": 0.1,
    "units": 32,
}


def parsed(text: str, key: str = "key") -> Override:
    return OverridesParser.create().parse_override(f"{key}={text}")


def space_of(*overrides: str) -> tuple[SearchSpace, Params]:
    items = [OverridesParser.create().parse_override(override) for override in overrides]
    sweeps = {str(item.key_or_group): item for item in items}
    return make_space(sweeps, conditions_of(sweeps), BASELINE.__getitem__)


@pytest.mark.parametrize(
    ("texts", "points"),
    [
        ([], 1),
        (["8,16,32"], 3),
        (["range(8,33,8)"], 4),
        (["interval(8,10)"], 3),
        (["tag(log,range(1,101))", "range(8,33,8)"], 400),
        (["range(0.1,1,0.1)"], 9),
        (["range(0,1.1,0.1)", "a,b"], 22),
        (["interval(8,10)", "interval(0,1.5)"], None),
        (["tag(log,interval(0.5,2))"], None),
    ],
)
def test_the_size_is_the_product_of_all_keys(texts: list[str], points: int | None) -> None:
    baselines: dict[str, Value] = {
        "8,16,32": 8,
        "a,b": "a",
        "range(0,1.1,0.1)": 1.0,
        "range(0.1,1,0.1)": 0.9,
    }
    baselines |= {"interval(0,1.5)": 1.0, "tag(log,interval(0.5,2))": 1.0}
    assert (
        SearchSpace(
            {text: to_distribution(parsed(text), baselines.get(text, 8)) for text in texts}
        ).size
        == points
    )


@pytest.mark.parametrize(
    ("first", "limit", "expected"),
    [
        ((0.1, 16, "relu"), 3, [(0.1, 16, "relu"), (0.1, 16, "elu"), (0.1, 24, "relu")]),
        ((0.30000000000000004, 24, "elu"), 2, [(0.3, 24, "elu"), (0.1, 16, "relu")]),
        ((0.1, 16, "relu"), 99, 12),
    ],
)
def test_the_points_of_a_space_in_their_order(
    first: tuple[Value, ...], limit: int, expected: list[tuple[Value, ...]] | int
) -> None:
    space = SearchSpace(
        {
            "dropout": FloatDistribution(0.1, 0.3, step=0.1),
            "filters": IntDistribution(16, 24, step=8),
            "activation": CategoricalDistribution(("relu", "elu")),
        }
    )
    params = dict(zip(space, first, strict=True))
    points = [space.to_point(config) for config in space.points_from(params, limit)]
    if isinstance(expected, int):
        assert len(points) == len(set(points)) == expected == space.size
    else:
        assert points == expected


def test_a_continuous_space_has_no_points() -> None:
    space = SearchSpace({"dropout": FloatDistribution(0, 1), "units": IntDistribution(1, 3)})
    assert list(space.points_from({"dropout": 0.5, "units": 1}, limit=5)) == []


SCHEDULE = "schedule=constant,plateau,cosine"
PATIENCE = "patience=tag('if schedule=plateau',range(2,5))"
FACTOR = "factor=tag('if patience=2,3',choice(0.1,0.5))"


@pytest.mark.parametrize(
    ("params", "applied"),
    [
        ({"schedule": "constant", "patience": 3, "factor": 0.5}, ["schedule"]),
        ({"schedule": "plateau", "patience": 3, "factor": 0.5}, ["schedule", "patience", "factor"]),
        ({"schedule": "plateau", "patience": 4, "factor": 0.5}, ["schedule", "patience"]),
        ({"patience": 2, "factor": 0.5}, []),
    ],
)
def test_a_key_applies_where_its_condition_holds(
    params: dict[str, Value], applied: list[str]
) -> None:
    space, _ = space_of(FACTOR, PATIENCE, SCHEDULE)  # in whatever order they are written
    assert list(space) == ["schedule", "patience", "factor"]
    assert list(space.applied(params)) == applied


def test_the_baseline_has_the_keys_that_apply_to_it() -> None:
    shift = "shift=tag('if augmentation=true',interval(0,0.05))"  # not the baseline's 0.1
    space, baseline = space_of(SCHEDULE, PATIENCE, "augmentation=true,false", shift)
    assert baseline == {"schedule": "constant", "augmentation": False}
    assert space.missing(baseline) == []
    assert space.missing({"schedule": "plateau", "augmentation": False}) == ["patience"]


def test_the_size_counts_each_config_once() -> None:
    space, baseline = space_of(SCHEDULE, PATIENCE, FACTOR, "units=16,32")
    # schedules without patience: 2; plateau with patience 4: 1, with 2 or 3: 2 factors each
    assert space.size == 2 * (2 + 1 + 2 * 2)
    configs = list(space.points_from(baseline, limit=99))
    assert len(configs) == len({space.to_point(config) for config in configs}) == space.size
    assert configs[0] == baseline
    assert all(space.missing(config) == [] for config in configs)
    assert len(list(space.points_from(baseline, limit=3))) == 3


def test_a_continuous_key_that_some_trials_explore_makes_the_space_continuous() -> None:
    space, _ = space_of(
        "augmentation=true,false", "shift=tag('if augmentation=true',interval(0,1))"
    )
    assert space.size is None


@pytest.mark.parametrize(
    ("baseline_schedule", "keys"), [("plateau", ["units", "patience"]), ("cosine", ["units"])]
)
def test_a_condition_on_a_fixed_value_holds_always_or_never(
    monkeypatch: pytest.MonkeyPatch, baseline_schedule: str, keys: list[str]
) -> None:
    monkeypatch.setitem(BASELINE, "schedule", baseline_schedule)
    space, baseline = space_of("units=16,32", PATIENCE)
    assert list(space) == list(baseline) == keys
    assert space.conditions == {}


def test_a_condition_on_a_key_that_never_applies_depends_on_its_baseline_value() -> None:
    space, _ = space_of(PATIENCE, FACTOR, "units=16,32")  # schedule is constant, patience 3
    assert list(space) == ["factor", "units"]


def test_a_condition_is_described() -> None:
    space, _ = space_of(SCHEDULE, PATIENCE, FACTOR)
    assert space.describe("schedule") == "one of constant, plateau, cosine"
    assert space.describe("patience") == "2 to 4, if schedule=plateau"
    assert space.describe("factor") == "one of 0.1, 0.5, if patience=2 or patience=3"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            [SCHEDULE, "patience=tag('if schedule=plato',range(2,5))"],
            "patience: its condition, if schedule=plato, must be a value of schedule in the search "
            "space, but that is one of constant, plateau, cosine.",
        ),
        (
            [SCHEDULE, "patience=tag('if schedule',range(2,5))"],
            "patience must have one condition, as in .* but got tag.'if schedule',range.2,5..",
        ),
        (
            [SCHEDULE, "patience=tag('if schedule=a','if schedule=b',range(2,5))"],
            "patience must have one condition, as in ",
        ),
        (
            [SCHEDULE, "patience=tag('if schedule=range(1,2)',range(2,5))"],
            "patience must have one condition, as in ",
        ),
        (
            ["patience=tag('if units=16',range(2,5))", "units=tag('if patience=2',choice(16,32))"],
            "patience must not be explored on a condition that depends on patience.",
        ),
    ],
)
def test_a_wrong_condition_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        space_of(*overrides)
