"""The settings of a sweep: defaults, changes, and what is refused."""

import re
from collections.abc import Callable, Iterator
from dataclasses import fields

import pytest
from hydra import compose, initialize_config_dir

from svhn_sweep.config.error_messages import USER_ERRORS, explain
from svhn_sweep.config.schema import Config, conf_dir, register_schema
from svhn_sweep.sweep.plan import settings
from svhn_sweep.sweep.plan.settings import ConfirmConfig, PrunerConfig, SweeperConfig, setting

ComposeSettings = Callable[..., SweeperConfig]


@pytest.fixture
def compose_settings() -> Iterator[ComposeSettings]:
    """`compose_settings("n_trials=3")`: the settings with `hydra.sweeper.n_trials=3`."""
    register_schema()
    settings.register()

    def compose_sweeper(*typed: str) -> SweeperConfig:
        overrides = [
            "hydra/sweeper=optuna",
            *(re.sub(r"^(\+*)", r"\1hydra.sweeper.", override) for override in typed),
        ]
        return settings.to_sweeper_config(
            compose("config", overrides, return_hydra_config=True).hydra
        )

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield compose_sweeper


def test_the_defaults(compose_settings: ComposeSettings) -> None:
    assert compose_settings() == SweeperConfig(
        params={"model": "model1,model2"},
        study_name=None,
        storage=None,
        n_trials=24,
        timeout=None,
        target_value=None,
        metric="val/accuracy",
        sampler="tpe",
        pruner=PrunerConfig("successive_halving", startup_trials=5, min_resource=None),
        workers="auto",
        workers_per_gpu="auto",
        devices=None,
        max_parameters=None,
        max_trials_per_worker=20,
        trial_timeout=None,
        max_consecutive_failures=5,
        cluster=None,
        confirm=ConfirmConfig(candidates=3, max_seeds=16, margin=0.005, seeds=None),
        ensemble=5,
        dry_run=False,
    )


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("val/accuracy", "maximize"),
        ("val/loss", "minimize"),
    ],
)
def test_accuracy_is_maximized_and_loss_minimized(
    compose_settings: ComposeSettings, metric: str, direction: str
) -> None:
    sweeper = compose_settings(f"metric={metric}")
    assert (sweeper.direction, sweeper.maximize) == (direction, direction == "maximize")


@pytest.mark.parametrize(
    ("typed", "name", "value"),
    [
        ("workers=3", "workers", "3"),
        ("devices=[0,1]", "devices", ["0", "1"]),
        ("devices=[cpu]", "devices", ["cpu"]),
        ("confirm=null", "confirm", None),
        ("confirm.seeds=2", "confirm", ConfirmConfig(3, 16, 0.005, 2)),
        ("target_value=1", "target_value", 1.0),
        ("target_value=0", "target_value", 0.0),
        ("timeout=1.5", "timeout", 1.5),
        ("metric=val/loss", "metric", "val/loss"),
        ("study_name=mine-2", "study_name", "mine-2"),
        (
            "+params={model.dropout: 'choice(0.1,0.2)'}",
            "params",
            {"model": "model1,model2", "model.dropout": "choice(0.1,0.2)"},
        ),
        ("dry_run=true", "dry_run", True),
    ],
)
def test_an_override_changes_a_setting(
    compose_settings: ComposeSettings, typed: str, name: str, value: object
) -> None:
    setting = getattr(compose_settings(typed), name)
    assert (type(setting), setting) == (type(value), value)


BAD = [
    # a key that does not exist
    (
        "n_trails=3",
        "hydra.sweeper.n_trails is not a key of the config; did you mean hydra.sweeper.n_trials?",
    ),
    ("+colour=red", "hydra.sweeper.colour is not a key of the config; there are _target_,"),
    (
        "pruner.nmae=none",
        "hydra.sweeper.pruner.nmae is not a key of the config; did you mean hydra.sweeper.pruner.n",
    ),
    # not one of a few
    ("sampler=grid", "hydra.sweeper.sampler must be one of tpe, random, qmc but got 'grid'."),
    (
        "metric=accuracy",
        "hydra.sweeper.metric must be one of val/accuracy, val/loss but got 'accuracy'.",
    ),
    (
        "metric=test/accuracy",
        "hydra.sweeper.metric must be one of val/accuracy, val/loss but got 'test/accuracy'.",
    ),
    (
        "pruner.name=hyper",
        "hydra.sweeper.pruner.name must be one of none, median, successive_halving, "
        "hyperband but got 'hyper'.",
    ),
    ("workers=0", "hydra.sweeper.workers must be auto or a number from 1 to 1024 but got '0'."),
    ("workers=-1", "hydra.sweeper.workers must be auto or a number from 1 to 1024 but got '-1'."),
    ("workers=1.5", "hydra.sweeper.workers must be auto or a number from 1 to 1024 but got '1.5'."),
    (
        "workers=1025",
        "hydra.sweeper.workers must be auto or a number from 1 to 1024 but got '1025'.",
    ),
    (
        "workers=many",
        "hydra.sweeper.workers must be auto or a number from 1 to 1024 but got 'many'.",
    ),
    # outside its range
    ("n_trials=0", "hydra.sweeper.n_trials must be at least 1 and at most 1000000 but got 0."),
    ("timeout=0", "hydra.sweeper.timeout must be greater than 0 but got 0.0."),
    ("timeout=-1", "hydra.sweeper.timeout must be greater than 0 but got -1.0."),
    ("timeout=inf", "hydra.sweeper.timeout must be a finite number greater than 0 but got inf."),
    ("target_value=inf", "hydra.sweeper.target_value must be a finite number but got inf."),
    (
        "target_value=-0.1",
        "hydra.sweeper.target_value must be from 0 to 1, as val/accuracy is, but got -0.1.",
    ),
    ("target_value=nan", "hydra.sweeper.target_value must be a finite number but got nan."),
    ("trial_timeout=0", "hydra.sweeper.trial_timeout must be greater than 0 but got 0.0."),
    (
        "workers_per_gpu=0",
        "hydra.sweeper.workers_per_gpu must be auto or a number from 1 to 64 but got '0'.",
    ),
    (
        "max_trials_per_worker=0",
        "hydra.sweeper.max_trials_per_worker must be at least 1 and at most 1000000 but got 0.",
    ),
    (
        "max_consecutive_failures=0",
        "hydra.sweeper.max_consecutive_failures must be at least 1 and at most 1000000 but got 0.",
    ),
    (
        "pruner.startup_trials=-1",
        "hydra.sweeper.pruner.startup_trials must be at least 0 and at most 1000000 but got -1.",
    ),
    (
        "pruner.min_resource=-1",
        "hydra.sweeper.pruner.min_resource must be at least 0 and at most 1000000 but got -1.",
    ),
    (
        "confirm.seeds=1",
        "hydra.sweeper.confirm.seeds must be at least 2 and at most 1000 but got 1.",
    ),
    (
        "study_name=a/b",
        "hydra.sweeper.study_name must be at most 100 letters, digits, '.', '_' and '-', "
        "beginning with a letter or digit, "
        "but got 'a/b'.",
    ),
    (
        f"study_name={'x' * 101}",
        "hydra.sweeper.study_name must be at most 100 letters, digits, '.', '_' and '-', "
        f"beginning with a letter or digit, but got '{'x' * 101}'.",
    ),
    # of a wrong type
    (
        "n_trials=many",
        "hydra.sweeper.n_trials: Value 'many' of type 'str' could not be converted to Integer.",
    ),
    ("n_trials=null", "hydra.sweeper.n_trials: field 'hydra.sweeper.n_trials' is not Optional."),
    (
        "timeout=long",
        "hydra.sweeper.timeout: Value 'long' of type 'str' could not be converted to Float.",
    ),
    ("dry_run=maybe", "hydra.sweeper.dry_run: Value 'maybe' is not a valid bool (type str)."),
    (
        "devices=cpu",
        "hydra.sweeper.devices: Invalid value assigned: str is not a ListConfig, list or tuple.",
    ),
    # an old name
    (
        "failures_in_a_row=3",
        "hydra.sweeper.failures_in_a_row is not a key of the config; "
        "did you mean hydra.sweeper.max_consecutive_failures?",
    ),
    (
        "target=0.9",
        "hydra.sweeper.target is not a key of the config; did you mean hydra.sweeper.target_value?",
    ),
    (
        "trials_per_worker=1",
        "hydra.sweeper.trials_per_worker is not a key of the config; "
        "did you mean hydra.sweeper.max_trials_per_worker?",
    ),
    (
        "pruner.warmup_epochs=1",
        "hydra.sweeper.pruner.warmup_epochs is not a key of the config; "
        "did you mean hydra.sweeper.pruner.min_resource?",
    ),
    # no value at all
    ("n_trials=???", "hydra.sweeper.n_trials must have a value but has none."),
]


@pytest.mark.parametrize(("typed", "message"), BAD)
def test_the_message_names_the_setting_the_rule_and_the_value(
    compose_settings: ComposeSettings, typed: str, message: str
) -> None:
    with pytest.raises(USER_ERRORS) as caught:
        compose_settings(typed)
    message_shown = explain(caught.value)
    assert message_shown.startswith(message)
    assert "\n" not in message_shown


def test_no_key_of_the_config_has_the_name_of_a_setting() -> None:
    """So that `n_trials=6` can stand for `hydra.sweeper.n_trials=6`."""
    assert not [item.name for item in fields(Config) if setting(f"{item.name}=1")]


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("n_trials=6", "n_trials"),
        ("++pruner.name=none", "pruner"),
        ("params.seed=1", None),
        ("hydra.sweeper.n_trials=6", None),
        ("training.epochs=1", None),
        ("-m", None),
    ],
)
def test_a_setting_is_recognized_without_its_section(override: str, name: str | None) -> None:
    assert setting(override) == name
