"""Plans from overrides: names, search spaces, the baseline, trials, and what is refused."""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from studies import Studies

from svhn_sweep.config.data_sources import SvhnConfig
from svhn_sweep.config.error_messages import USER_ERRORS, explain
from svhn_sweep.config.flatten import flatten
from svhn_sweep.config.model_size import count_parameters
from svhn_sweep.config.overrides import Value
from svhn_sweep.config.schema import Config, compose_config, conf_dir, register_schema
from svhn_sweep.errors import ConfigError
from svhn_sweep.sweep.plan import settings
from svhn_sweep.sweep.plan.make_plans import Resolved, make_plans
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.plan.resume_command import resume_command
from svhn_sweep.sweep.plan.search_space import Params
from svhn_sweep.sweep.plan.settings import ConfirmConfig, PrunerConfig, SweeperConfig
from svhn_sweep.sweep.study.sampling import make_sampler, sampler_maker, suggest_params
from svhn_sweep.sweep.study.untried_sampler import UntriedSampler
from svhn_sweep.training.initial_weights import InitialWeights
from svhn_sweep.transfer import with_address

MakePlans = Callable[..., list[Plan]]

# One model and one explored key, dropout, where that is enough: each key takes two compositions.
FIXED = ("model.filters.conv1=16", "model.filters.conv2=32", "training.learning_rate=1e-3")
SMALL = ("model=model1", *FIXED)
BATCH_SIZE = "training.batch_size=7"
DROPOUT = FloatDistribution(0, 0.6)
WEIGHTS = InitialWeights("runs:/abc", Path("copy.keras"), "a" * 64)
CHAMPION = "training.initial_weights=models:/svhn-digits@champion"


@pytest.fixture(scope="module")
def planned() -> Iterator[MakePlans]:
    """`planned("model=model1", n_trials=3)`: the plans for these overrides and settings."""
    register_schema()
    settings.register()

    def from_typed(
        *arguments: str,
        sha256: str = "digits",
        weights: InitialWeights | None = None,
        **changes: object,
    ) -> list[Plan]:
        changed: SweeperConfig = replace(defaults, **changes)  # type: ignore[arg-type]
        return make_plans(
            changed,
            arguments,
            lambda config: Resolved(
                with_address(replace(config, data=SvhnConfig("/digits.h5")), weights),
                sha256,
                weights,
            ),
            OmegaConf.create(),
        )

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        hydra = compose("config", ["hydra/sweeper=optuna"], return_hydra_config=True).hydra
        defaults = settings.to_sweeper_config(hydra)
        yield from_typed


@pytest.fixture(scope="module")
def default_plans(planned: MakePlans) -> list[Plan]:
    """The plans of the command without overrides."""
    return planned()


@pytest.fixture(scope="module")
def small(planned: MakePlans) -> Plan:
    """The plan of SMALL, to compare others with."""
    (plan,) = planned(*SMALL)
    return plan


def values(config: Config) -> dict[str, Value]:
    """Everything that can distinguish trials."""
    parts = {"model": config.model, "training": config.training}
    flat = {key: value for name, part in parts.items() for key, value in flatten(part, f"{name}.")}
    return {**flat, "seed": config.seed}


# names


def test_every_model_has_a_plan(default_plans: list[Plan]) -> None:
    assert [plan.config.model.name for plan in default_plans] == ["model1", "model2"]
    for plan in default_plans:
        assert plan.name == f"{plan.config.model.name}-{plan.fingerprint[:8]}"
        assert (plan.folder, plan.n_trials, plan.data_sha256) == (
            Path("multirun") / plan.name,
            24,
            "digits",
        )
        assert plan.config.data == SvhnConfig("/digits.h5")
        assert plan.config.evaluation.test is False


@pytest.mark.parametrize(
    ("typed", "models"),
    [
        ("model=model2", ["model2"]),
        ("model=model2,model1", ["model2", "model1"]),
        ("model=choice(model1,model2)", ["model1", "model2"]),
        ("model=glob(*1)", ["model1"]),
        ("model=glob(*)", ["model1", "model2"]),
    ],
)
def test_a_sweep_over_models_makes_a_plan_for_each(
    planned: MakePlans, typed: str, models: list[str]
) -> None:
    assert [
        plan.config.model.name for plan in planned(typed, "search_space/filters=model1", *FIXED)
    ] == models


def test_without_an_override_the_model_is_that_of_conf(planned: MakePlans) -> None:
    (plan,) = planned("search_space/filters=model1", *FIXED, params={})
    assert plan.config.model.name == "model2"


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("model1", ["mine"]),
        ("model1,model2", ["mine-model1", "mine-model2"]),
    ],
)
def test_study_name_is_followed_by_the_model_if_there_are_several(
    planned: MakePlans, model: str, names: list[str]
) -> None:
    plans = planned(f"model={model}", "search_space/filters=model1", *FIXED, study_name="mine")
    assert [plan.name for plan in plans] == names


@pytest.mark.parametrize(
    "typed",
    [
        ["seed=42"],
        ["training=model1"],
        ["model.dropout=interval(0,0.6)"],
        ["model.dropout=interval(0.0,0.60)"],
        ["training.learning_rate=0.001"],
        ["training.restore_best_weights=true"],
        ["training.precision=auto"],
        ["data=synthetic", "data.seed=7"],  # the SHA-256 of the digits counts
        ["tracking.experiment=other"],
        ["evaluation.test=false"],
    ],
)
def test_an_override_without_effect_does_not_make_another_study(
    planned: MakePlans, small: Plan, typed: list[str]
) -> None:
    assert planned(*SMALL, *typed)[0].name == small.name


@pytest.mark.parametrize(
    ("name", "value", "another"),
    [
        ("TF_ENABLE_ONEDNN_OPTS", "0", True),
        ("TF_ENABLE_ONEDNN_OPTS", "1", False),
        ("NVIDIA_TF32_OVERRIDE", "0", True),
        ("KERAS_BACKEND", "jax", False),
        ("CUDA_VISIBLE_DEVICES", "-1", False),
    ],
)
def test_a_variable_that_changes_numbers_makes_another_study(
    planned: MakePlans,
    small: Plan,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    another: bool,
) -> None:
    monkeypatch.setenv(name, value)
    assert (planned(*SMALL)[0].name != small.name) == another


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["model.dropout=choice(0,0.5)"], ["model.dropout=0.0,0.5"]),
        (["model.dropout=range(0,0.5,0.1)"], ["model.dropout=range(0,0.41,0.1)"]),
        (["model.dense_units=range(32,65,32)"], ["model.dense_units=range(32,96,32)"]),
        (["seed=7", "training.epochs=3"], ["training.epochs=3", "seed=7"]),
        (
            ["model.dense_units=32,64", "model.dropout=0,0.5"],
            ["model.dropout=0,0.5", "model.dense_units=32,64"],
        ),
    ],
)
def test_another_notation_does_not_make_another_study(
    planned: MakePlans, one: list[str], other: list[str]
) -> None:
    assert planned(*SMALL, *one)[0].name == planned(*SMALL, *other)[0].name


@pytest.mark.parametrize(
    "changes",
    [
        {"n_trials": 3},
        {"timeout": 60.0},
        {"target_value": 0.9},
        {"workers": "7"},
        {"devices": ["cpu"]},
        {"trial_timeout": 60.0},
        {"sampler": "random"},
        {"pruner": PrunerConfig("none", startup_trials=0, min_resource=0)},
        {"confirm": None},
        {"confirm": ConfirmConfig(3, 16, 0.005, 9)},
        {"params": {"model": "model1", "model.dropout": "interval(0,0.6)"}},
    ],
)
def test_the_way_of_searching_does_not_make_another_study(
    planned: MakePlans, small: Plan, changes: dict[str, object]
) -> None:
    assert planned(*SMALL, **changes)[0].name == small.name


@pytest.mark.parametrize(
    ("typed", "changes"),
    [
        (["model.dropout=interval(0,0.5)"], {}),
        (["model.dropout=0,0.5"], {}),
        (["model.dense_units=32,64"], {}),
        (["model.dropout=0", "model.dense_units=32,64"], {}),
        (["model.filters.conv1=8"], {}),
        (["model.filters.conv1=8,16"], {}),
        (["training.epochs=3"], {}),
        (["training.restore_best_weights=false"], {}),
        (["seed=43"], {}),
        ([], {"sha256": "others"}),
        ([], {"metric": "val/loss"}),
        ([], {"params": {"model": "model1", "model.dropout": "interval(0,0.5)"}}),
    ],
)
def test_a_change_that_makes_trials_incomparable_makes_another_study(
    planned: MakePlans, small: Plan, tmp_path: Path, typed: list[str], changes: dict[str, object]
) -> None:
    (after,) = planned(*SMALL, *typed, **changes)
    assert after.name != small.name
    studies = Studies(tmp_path)
    studies.open(replace(small, name="mine"))
    with pytest.raises(
        ConfigError, match=r"^hydra\.sweeper\.study_name must be new for a changed sweep, but mine"
    ):
        studies.open(replace(after, name="mine"))
    studies.close()


# the space and the baseline


def test_the_default_space_is_that_of_conf_around_the_baseline(default_plans: list[Plan]) -> None:
    model1, model2 = default_plans
    blocks: dict[str, BaseDistribution] = {
        "model.filters.conv1": IntDistribution(8, 32, step=8),
        "model.filters.conv2": IntDistribution(16, 64, step=16),
    }
    rate = FloatDistribution(1e-4, 1e-2, log=True)
    assert model1.space == {"training.learning_rate": rate, "model.dropout": DROPOUT, **blocks}
    assert model2.space == {
        **model1.space,
        "model.filters.conv3": IntDistribution(16, 64, step=16),
        "model.filters.conv4": IntDistribution(32, 128, step=32),
    }
    for plan, dropout in ((model1, 0.0), (model2, 0.5)):
        baseline = {"training.learning_rate": 1e-3, "model.dropout": dropout}
        filters = {
            f"model.filters.{name}": value for name, value in plan.config.model.filters.items()
        }
        assert list(plan.enqueued_trials) == [baseline | filters]


@pytest.mark.parametrize(
    ("typed", "params", "space"),
    [
        ([], {}, {"model.dropout": DROPOUT}),
        # typed: replaced, added, taken out
        (["model.dropout=0,0.5"], {}, {"model.dropout": CategoricalDistribution((0.0, 0.5))}),
        (
            ["model.dense_units=32,64"],
            {},
            {"model.dropout": DROPOUT, "model.dense_units": CategoricalDistribution((32, 64))},
        ),
        (
            ["model.dense_units=32,64", "model.dropout=0.5"],
            {},
            {"model.dense_units": CategoricalDistribution((32, 64))},
        ),
        # params: likewise, and what is typed wins over them
        (
            [],
            {"model.dropout": "choice(0,0.5)"},
            {"model.dropout": CategoricalDistribution((0.0, 0.5))},
        ),
        (
            ["model.dense_units=32,64"],
            {"model.dropout": 0.3},
            {"model.dense_units": CategoricalDistribution((32, 64))},
        ),
        (
            ["model.dropout=interval(0,0.6)"],
            {"model.dropout": "choice(0,0.5)"},
            {"model.dropout": DROPOUT},
        ),
        (["model.dropout=interval(0,0.6)"], {"model.dropout": 0.3}, {"model.dropout": DROPOUT}),
        (
            ["model.dense_units=32,64", "model.dropout=0.1"],
            {"model.dropout": "choice(0,0.5)"},
            {"model.dense_units": CategoricalDistribution((32, 64))},
        ),
        # another choice in conf
        (
            ["search_space={model.dropout: 'interval(0,0.2)'}"],
            {},
            {"model.dropout": FloatDistribution(0, 0.2)},
        ),
    ],
)
def test_overrides_and_params_change_the_search_space(
    planned: MakePlans,
    typed: list[str],
    params: dict[str, Value],
    space: dict[str, BaseDistribution],
) -> None:
    (plan,) = planned(*SMALL, *typed, params={"model": "model1,model2"} | params)
    assert plan.space == space
    assert list(plan.enqueued_trials[0]) == list(plan.space)


@pytest.mark.parametrize(
    ("typed", "params", "dropout"),
    [
        ("model.dropout=0.5", {}, 0.5),
        ("model.dense_units=32", {"model.dropout": 0.3}, 0.3),
        ("model.dropout=0.1", {"model.dropout": 0.3}, 0.1),
    ],
)
def test_a_fixed_value_moves_the_baseline(
    planned: MakePlans, typed: str, params: dict[str, Value], dropout: float
) -> None:
    (plan,) = planned(*SMALL, typed, "model.dense_units=32,64", params={"model": "model1"} | params)
    assert plan.config.model.dropout == dropout
    assert "model.dropout" not in plan.enqueued_trials[0]
    assert compose_config(plan.overrides(plan.enqueued_trials[0], 1)).model.dropout == dropout


def test_a_group_moves_the_baseline_of_its_keys(planned: MakePlans) -> None:
    (plan,) = planned(*SMALL, "training=model2", "training.batch_size=64,128")
    assert (plan.config.training.epochs, plan.enqueued_trials[0]["training.batch_size"]) == (
        30,
        128,
    )


@pytest.mark.parametrize(
    ("typed", "baseline"),
    [
        ([], True),
        (["training.restore_best_weights=false"], False),
    ],
)
def test_a_sweep_restores_the_best_weights_by_default(
    planned: MakePlans, typed: list[str], baseline: bool
) -> None:
    (plan,) = planned(*SMALL, *typed)
    assert plan.config.training.restore_best_weights is baseline
    assert (
        compose_config(plan.overrides(plan.enqueued_trials[0], 1)).training.restore_best_weights
        is baseline
    )


@pytest.mark.parametrize(
    ("typed", "precision"), [([], "auto"), (["training.precision=float32"], "float32")]
)
def test_a_sweep_has_precision_auto_by_default(
    planned: MakePlans, typed: list[str], precision: str
) -> None:
    (plan,) = planned(*SMALL, *typed)
    assert plan.config.training.precision == precision  # `resolve` says what auto is


# trials


def drawn(plan: Plan, size: int) -> Iterator[Params]:
    """The params of trials that a study may draw."""
    study = optuna.create_study(sampler=make_sampler("random", 0, 0))
    for _ in range(size):
        yield suggest_params(study.ask(), plan.space)


def test_a_trial_is_the_baseline_with_its_own_params(planned: MakePlans) -> None:
    (plan,) = planned(
        "model=model1",
        "model.leaky_relu_slope=range(0,0.5,0.1)",
        "model.dense_units=8,32,128",
        "model.batch_norm=true,false",
        "training.epochs=3",
        "model.filters.conv2=int(interval(1,1024))",
    )
    for params in drawn(plan, 12):
        config = compose_config(plan.overrides(params, 2))
        expected = {**values(plan.config), **params, "training.threads": 2}
        # 0.30000000000000004 means 0.3
        slope = round(float(str(params["model.leaky_relu_slope"])), 1)
        assert values(config) == expected | {"model.leaky_relu_slope": slope}
        assert (config.data, config.evaluation) == (plan.config.data, plan.config.evaluation)


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("seed=${now:%f}", "seed"),
        ("tracking.experiment=e-${now:%f}", "tracking.experiment"),
        ("++training.batch_size=1${now:%H}", "training.batch_size"),
        ("training.epochs=${oc.env:EPOCHS}", "training.epochs"),
    ],
)
def test_an_interpolation_is_resolved_once_for_all_models_and_trials(
    planned: MakePlans, monkeypatch: pytest.MonkeyPatch, typed: str, key: str
) -> None:
    monkeypatch.setenv("EPOCHS", "7")
    plans = planned("model=model1,model2", "search_space/filters=model1", *FIXED, typed)
    monkeypatch.setenv("EPOCHS", "8")  # as on another machine
    expected = {OmegaConf.select(OmegaConf.structured(plan.config), key) for plan in plans}
    overrides = [plan.overrides({"model.dropout": 0.1}, 1) for plan in plans]
    in_trials = {
        OmegaConf.select(OmegaConf.structured(compose_config(trial)), key) for trial in overrides
    }
    assert in_trials == expected
    assert len(expected) == 1
    assert not any("${" in override for trial in overrides for override in trial)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The override that adds a user's files, in which the environment has the value 7."""
    monkeypatch.setenv("MINE", "7")
    files = {
        "mine/seeded.yaml": "# @package _global_\nseed: ${oc.env:MINE}\n",
        "training/mine.yaml": "defaults: [model1]\nbatch_size: ${oc.env:MINE}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    return f"hydra.searchpath=[file://{tmp_path}]"


@pytest.mark.parametrize(
    ("typed", "resumed"),
    [
        (["+mine=seeded"], ["+mine=seeded", "seed=7"]),
        (["+mine=seeded", "seed=8"], ["+mine=seeded", "seed=8"]),
        (["+mine=seeded", "seed=${oc.env:MINE}"], ["+mine=seeded", "seed=7"]),
        (["model=model1", "training=mine"], ["model=model1", "training=mine", BATCH_SIZE]),
    ],
)
def test_the_command_that_continues_a_sweep_holds_what_interpolations_stand_for(
    planned: MakePlans, own: str, typed: list[str], resumed: list[str]
) -> None:
    plans = planned(own, *typed)
    composed = compose("config", ["hydra/sweeper=optuna", own, *typed], return_hydra_config=True)
    command = resume_command(composed, plans)
    arguments = [item for item in shlex.split(command) if "searchpath" not in item]
    assert arguments == ["python", "-m", "svhn_sweep", "-m", "optuna", *resumed]


def test_a_file_of_an_explored_group_has_no_interpolation_that_trials_resolve_anew(
    planned: MakePlans, own: str
) -> None:
    """Pinned to the baseline's, all trials would have that file's batch size."""
    message = "training.batch_size must have a value of its own in the files of a group that is e"
    with pytest.raises(ConfigError, match=message):
        planned(*SMALL, own, "training=model1,mine")
    (plan,) = planned(*SMALL, own, "training=model1,mine", "training.batch_size=${oc.env:MINE}")
    assert BATCH_SIZE in plan.fixed


def test_an_interpolation_of_another_key_follows_a_trial(planned: MakePlans) -> None:
    (plan,) = planned(*SMALL, "model.dense_units=32,64", "model.leaky_relu_slope=${model.dropout}")
    trial = plan.overrides({"model.dropout": 0.2, "model.dense_units": 64}, 1)
    assert compose_config(trial).model.leaky_relu_slope == 0.2


def test_a_group_of_conf_can_be_explored(planned: MakePlans) -> None:
    (plan,) = planned(
        *SMALL, "training=model1,model2", "model.dropout=0", "training.learning_rate=1e-3,1e-2"
    )
    assert plan.space == {
        "training": CategoricalDistribution(("model1", "model2")),
        "training.learning_rate": CategoricalDistribution((0.001, 0.01)),
    }
    assert plan.enqueued_trials == [{"training": "model1", "training.learning_rate": 0.001}]
    config = compose_config(
        plan.overrides({"training": "model2", "training.learning_rate": 0.01}, 1)
    )
    assert (config.training.epochs, config.training.batch_size, config.training.learning_rate) == (
        30,
        128,
        0.01,
    )
    assert config.training.restore_best_weights


def test_a_trial_has_its_own_number_of_epochs(planned: MakePlans) -> None:
    (groups,) = planned(
        *SMALL, "training=model1,model2", "model.dropout=0", "training.learning_rate=1e-3,1e-2"
    )
    (epochs,) = planned(*SMALL, "training.epochs=20,3")
    (fixed,) = planned(*SMALL, "training.epochs=7")
    assert [groups.epochs({"training": option}) for option in ("model1", "model2")] == [20, 30]
    assert [epochs.epochs({"training.epochs": value}) for value in (20, 3)] == [20, 3]
    assert fixed.epochs({"model.dropout": 0.1}) == 7


def test_the_overrides_of_a_trial_pin_what_was_resolved(planned: MakePlans) -> None:
    (plan,) = planned(*SMALL, "data=synthetic", "data.seed=7", "training.threads=4")
    assert plan.overrides({"model.dropout": 0.25}, 2) == [
        *SMALL,
        "training.restore_best_weights=true",
        "model.dropout=0.25",
        "data=svhn",
        "data.path=/digits.h5",
        "training.precision=auto",
        "training.threads=2",
        "evaluation.test=false",
    ]


def test_the_run_name_and_description_of_a_trial(small: Plan) -> None:
    params = {"training.learning_rate": 0.0021, "model.dropout": 0.25}
    assert (small.run_name(0, params), small.describe(0, params)) == (
        "model1 · baseline",
        "baseline",
    )
    assert (small.run_name(3, params), small.describe(3, params)) == (
        "model1 · trial 3",
        "learning_rate 2.10e-03, dropout 0.25",
    )


# initial weights


def test_trials_name_the_weights_that_the_driver_resolved(planned: MakePlans) -> None:
    (plan,) = planned(*SMALL, CHAMPION, "training.freeze=range(0,3)", weights=WEIGHTS)
    assert plan.space["training.freeze"] == IntDistribution(0, 2)
    assert plan.enqueued_trials == [{"training.freeze": 0, "model.dropout": 0.0}]
    overrides = plan.overrides({"training.freeze": 2}, 1)
    assert [item for item in overrides if "initial_weights" in item] == [
        "training.initial_weights=runs:/abc"
    ]
    assert compose_config(overrides).training.freeze == 2
    kept = plan.folder / "initial_weights.keras"
    assert plan.kept_weights == replace(WEIGHTS, file=kept)


def test_a_study_is_named_by_the_content_of_its_weights(planned: MakePlans, small: Plan) -> None:
    def name(weights: InitialWeights) -> str:
        (plan,) = planned(*SMALL, CHAMPION, weights=weights)
        return plan.name

    elsewhere = replace(WEIGHTS, address="/copy.keras", origin={"initial_weights.model": "a/1"})
    names = [name(WEIGHTS), name(elsewhere), name(replace(WEIGHTS, sha256="b" * 64)), small.name]
    assert names[0] == names[1]
    assert len(set(names)) == 3


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            [CHAMPION],
            "model.filters.conv1, model.filters.conv2 must not be explored with "
            "training.initial_weights, whose layers have one size; fix them: "
            "model.filters.conv1=16 model.filters.conv2=32",
        ),
        (
            [CHAMPION, *FIXED, "model.dense_units=32,64"],
            "model.dense_units must not be explored with training.initial_weights, whose layers "
            "have one size; fix it: model.dense_units=32",
        ),
        (
            [CHAMPION, *FIXED, "training.freeze=range(0,5)"],
            "training.freeze must be at most 2, the number of convolutions, but got 4.",
        ),
        (
            [f"{CHAMPION},runs:/abc", *FIXED],
            "training.initial_weights must be the same for all trials of a study but got",
        ),
    ],
)
def test_what_does_not_go_with_initial_weights(
    planned: MakePlans, typed: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        planned("model=model1", *typed, weights=WEIGHTS)
    assert explain(caught.value).startswith(message)


# what is refused

BAD = [
    # a key or a name that does not exist
    (
        "model.dropuot=0.1,0.2",
        "model.dropuot is not a key of the config; did you mean model.dropout?",
    ),
    ("model.dropuot=0.1", "model.dropuot is not a key of the config; did you mean model.dropout?"),
    ("colour=1,2", "colour is not a key of the config; there are model, data, training,"),
    ("model=model1,nosuch", "model must be one of model1, model2 but got 'nosuch'."),
    (
        "training=model1,fast",
        "training must be one of model1, model2 but got 'fast'; "
        "without an override it is the model's name.",
    ),
    # not a space
    ("model=model1,model1", "model must have each name once but got model=model1,model1."),
    ("model=interval(1,2)", "model must be one or more names but got model=interval(1,2)."),
    (
        "training.augmentation=1,2",
        "training.augmentation must be a single value or a group of "
        "conf/ to be explored but is a section.",
    ),
    (
        "model.filters=1,2",
        "model.filters must be a single value or a group of conf/ to be explored but is a section.",
    ),
    (
        "model.dropout=choice(0.0)",
        "model.dropout must have at least two values but got choice(0.0).",
    ),
    (
        "model.dropout=glob(*)",
        "model.dropout must be choice(...), values between commas, range(...) or "
        "interval(...) but got glob(*).",
    ),
    (
        "search_space={model.dropout: '0.3'}",
        "search_space must hold several values for each key but model.dropout has one.",
    ),
    (
        "search_space.model.dropout=interval(0,0.2)",
        "search_space.model.dropout must be typed without search_space. in front: "
        "model.dropout=interval(0,0.2)",
    ),
    ("~search_space", "search_space must name at least one key but that of model1 is empty."),
    ("model.dropout=0", "search_space must name at least one key but that of model1 is empty."),
    # without an effect, or resolved anew
    (
        "training.augmentation.shift=choice(0.1,0.2)",
        "training.augmentation.shift changes nothing without training.augmentation.enabled=true, "
        "so it cannot be varied.",
    ),
    (
        "training.reduce_on_plateau.patience=range(1,4)",
        "training.reduce_on_plateau.patience changes nothing without training.schedule=plateau, "
        "so it cannot be varied.",
    ),
    (
        "model.dropout=choice(0.0,${oc.env:NOPE,0.1})",
        "model.dropout must have a value of its own, but each trial would resolve an "
        "interpolation anew.",
    ),
    # conditions on keys that are not explored
    (
        "model.dropout=tag('if training.schedule=platau',interval(0,0.3))",
        "model.dropout is explored if training.schedule=platau, but training.schedule: Invalid "
        "value 'platau', expected one of [constant, plateau, cosine].",
    ),
    (
        "model.dropout=tag('if training.shedule=plateau',interval(0,0.3))",
        "model.dropout is explored if training.shedule=plateau, but training.shedule is not a key "
        "of the config; did you mean training.schedule?",
    ),
    (
        "model.dropout=tag('if training.schedule=plateau',interval(0,0.3))",
        "search_space must name at least one key but that of model1 is empty.",
    ),
    # the baseline is not in it
    (
        "model.dropout=interval(0.2,0.4)",
        "model.dropout: the baseline's 0.0 must be in its own "
        "search space but that is interval(0.2,0.4).",
    ),
    (
        "training.learning_rate=tag(log,interval(1e-2,1e-1))",
        "training.learning_rate: the baseline's 0.001 must be in its own search space but that is "
        "tag(log,interval(1e-2,1e-1)).",
    ),
    ("training=model2,model2", "training must have each value once but got model2,model2."),
    # its ends are not allowed
    (
        "model.dropout=interval(0,1.5)",
        "model.dropout must be at least 0 and less than 1 but got 1.5.",
    ),
    (
        "model.dropout=interval(-0.5,0.5)",
        "model.dropout must be at least 0 and less than 1 but got -0.5.",
    ),
    ("model.dropout=0,0.5,1", "model.dropout must be at least 0 and less than 1 but got 1.0."),
    (
        "training.batch_size=range(0,65,32)",
        "training.batch_size must be at least 1 and at most 1000000 but got 0.",
    ),
    (
        "training.freeze=range(0,3)",
        "training.freeze must be 0 without training.initial_weights, since random weights would "
        "stay random, but got 2.",
    ),
    ("seed=42,43", "seed must be the same for all trials of a study but got seed=42,43."),
    (
        "model.dropout=0.0,half",
        "model.dropout: Value 'half' of type 'str' could not be converted to Float.",
    ),
    ("model.dropout=null,0.0", "model.dropout: field 'model.dropout' is not Optional."),
    (
        "training.batch_size=32,null",
        "training.batch_size: field 'training.batch_size' is not Optional.",
    ),
    (
        "training.batch_size=interval(16,64.5)",
        "training.batch_size must be searched in integers like the baseline's 32, "
        "for example with int(...), "
        "but got interval(16,64.5).",
    ),
    # the same for all trials
    *(
        (
            typed,
            f"{typed.partition('=')[0]} must be the same for all "
            f"trials of a study but got {typed}.",
        )
        for typed in (
            *(
                "data=svhn,synthetic",
                "data.seed=1,2",
                "data.path=a.h5,b.h5",
                "search_space=notebook,wide",
                "search_space/filters=model1,model2",
            ),
            *(
                "evaluation.test=true,false",
                "training.threads=1,2",
                "training.precision=float32,mixed_bfloat16",
            ),
            *("tracking.experiment=a,b", "tracking.log_model=true,false"),
        )
    ),
    # test is not looked at
    (
        "evaluation.test=true",
        "evaluation.test must not be true in a sweep, which selects on validation alone.",
    ),
    # the baseline itself is none
    ("model.dropout=2", "model.dropout must be at least 0 and less than 1 but got 2.0."),
    (
        "training.epochs=many",
        "training.epochs: Value 'many' of type 'str' could not be converted to Integer.",
    ),
]


@pytest.mark.parametrize(("typed", "message"), BAD)
def test_an_invalid_sweep_is_refused(planned: MakePlans, typed: str, message: str) -> None:
    fixed = FIXED if typed.startswith("model=") else SMALL
    with pytest.raises(USER_ERRORS) as caught:
        planned(*fixed, typed)
    message_shown = explain(caught.value)
    assert message_shown.startswith(message)
    assert "\n" not in message_shown


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        (
            "model.dropuot",
            "choice(0.1,0.2)",
            "model.dropuot is not a key of the config; did you mean model.dropout?",
        ),
        (
            "data.seed",
            "choice(1,2)",
            "data.seed must be the same for all trials of a study but got data.seed=choice(1,2).",
        ),
        (
            "model.dropout",
            "interval(0,1.5)",
            "model.dropout must be at least 0 and less than 1 but got 1.5.",
        ),
    ],
)
def test_params_obey_the_same_rules(planned: MakePlans, key: str, text: str, message: str) -> None:
    with pytest.raises(USER_ERRORS) as caught:
        planned(*SMALL, params={key: text})
    assert explain(caught.value).startswith(message)


# the wide search space, and how large a model may be


def test_the_wide_space_explores_only_what_has_an_effect(planned: MakePlans) -> None:
    (plan,) = planned("model=model2", "search_space=wide")
    assert plan.config.training.epochs == 60
    shift, patience = "training.augmentation.shift", "training.reduce_on_plateau.patience"
    seen = set()
    for params in drawn(plan, 16):
        assert (shift in params) == params["training.augmentation.enabled"]
        assert (patience in params) == (params["training.schedule"] == "plateau")
        seen.add((shift in params, patience in params))
        in_trial = compose_config(plan.overrides(params, 1))
        logged = dict(flatten(in_trial.training, "training."))
        assert (shift in logged, patience in logged) == (shift in params, patience in params)
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("typed", "described"),
    [
        ([], "2 to 6, if training.schedule=plateau"),
        (["{patience}=range(1,4)"], "1 to 3, if training.schedule=plateau"),  # as in the file
        (["{patience}=tag('if training.epochs=60',range(1,4))"], "1 to 3"),
        (["{patience}=tag('if training.freeze=2',range(1,4))"], None),
        (["training.schedule=plateau"], "2 to 6"),
        (["training.schedule=cosine"], None),
        (["{patience}=3"], None),
    ],
)
def test_a_typed_override_changes_a_conditional_key(
    planned: MakePlans, typed: list[str], described: str | None
) -> None:
    patience = "training.reduce_on_plateau.patience"
    overrides = [override.format(patience=patience) for override in typed]
    (plan,) = planned("model=model2", "search_space=wide", *overrides)
    assert (plan.space.describe(patience) if patience in plan.space else None) == described


@pytest.mark.parametrize(("model", "limit"), [("model1", 300_000), ("model2", 100_000)])
def test_no_model_is_larger_than_max_parameters(planned: MakePlans, model: str, limit: int) -> None:
    (plan,) = planned(f"model={model}", "search_space=wide", max_parameters=limit)
    study = optuna.create_study()
    study.sampler = UntriedSampler(sampler_maker("tpe", plan), plan, study.get_trials)
    sizes = []
    for _ in range(8):
        trial = study.ask()
        params = suggest_params(trial, plan.space)
        config = compose_config(plan.overrides(params, 1))
        sizes.append(count_parameters(config.model))
        study.tell(trial, 0.5)
    assert max(sizes) <= limit
    assert len(set(sizes)) > 3


def test_max_parameters_must_leave_a_model(planned: MakePlans) -> None:
    message = r"^hydra\.sweeper\.max_parameters must be at least \d+, the smallest model of the "
    with pytest.raises(ConfigError, match=message + "search space, but got 1000."):
        planned("model=model2", max_parameters=1000)


def test_models_that_are_too_large_are_no_configs_of_a_finite_space(planned: MakePlans) -> None:
    filters = [f"model.filters.conv{number}={size}" for number, size in enumerate((16, 32, 32), 1)]
    (plan,) = planned(
        "model=model2",
        *filters,
        "model.filters.conv4=32,64,96",
        "training.learning_rate=1e-3",
        "model.dropout=0.5,0.2",
        max_parameters=164_362,
    )
    assert plan.n_configs == 4


def test_the_smallest_model_differs_in_its_size_only(planned: MakePlans) -> None:
    (plan,) = planned("model=model1", "search_space=wide", max_parameters=300_000)
    params = dict(plan.enqueued_trials[0])
    smallest = plan.with_smallest_model(params)
    changed = {key for key in params if smallest[key] != params[key]}
    assert changed <= {"model.filters.conv1", "model.filters.conv2", "model.dense_units"}
    assert plan.parameters(smallest) < plan.parameters(params)
