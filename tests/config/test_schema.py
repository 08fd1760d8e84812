from collections.abc import Callable
from dataclasses import is_dataclass

import pytest

from svhn_sweep.config.error_messages import USER_ERRORS, explain
from svhn_sweep.config.flatten import NEEDS, flatten
from svhn_sweep.config.schema import Config

ComposeConfig = Callable[..., Config]

BAD_OVERRIDES = [
    # a key that does not exist
    ("modle=model2", "modle is not a key of the config; did you mean model?"),
    ("model.dropuot=0.2", "model.dropuot is not a key of the config; did you mean model.dropout?"),
    ("model.filters.conv9=8", "model.filters.conv9 is not a key of the config"),
    ("data=svhn data.train_size=9", "data.train_size is not a key of the config; there are path."),
    ("+training.momentum=0.9", "training.momentum is not a key of the config; there are epochs,"),
    ("+colour=true", "colour is not a key of the config"),
    # a key without its section
    ("epochs=3", "epochs is not a key of the config; did you mean training.epochs?"),
    ("lr=1e-3", "lr is not a key of the config; did you mean training.learning_rate?"),
    ("path=a.h5", "path is not a key of the config; did you mean data.path?"),
    # an option that does not exist
    ("model=nosuch", "model must be one of model1, model2 but got 'nosuch'."),
    ("training=fast", "training must be one of model1, model2 but got 'fast'; without an override"),
    ("data=mnist", "data must be one of auto, stanford, svhn, synthetic but got 'mnist'."),
    # a wrong type
    (
        "training.epochs=1.5",
        "training.epochs: Value '1.5' of type 'float' could not be converted to Integer.",
    ),
    (
        "training.learning_rate=fast",
        "training.learning_rate: Value 'fast' of type 'str' could not be converted",
    ),
    ("training.precision=float16", "training.precision: Invalid value 'float16', expected one of"),
    ("evaluation.test=maybe", "evaluation.test: Value 'maybe' is not a valid bool"),
    ("training.epochs=null", "training.epochs: field 'training.epochs' is not Optional."),
    (
        "training.augmentation=true",
        "training.augmentation is a section: set training.augmentation.KEY instead; KEY is enabled",
    ),
    # a value outside its range
    ("model.dropout=1", "model.dropout must be at least 0 and less than 1 but got 1.0."),
    ("model.dropout=-0.1", "model.dropout must be at least 0 and less than 1 but got -0.1."),
    ("model.filters.conv1=0", "model.filters.conv1 must be at least 1 and at most 1024 but got 0."),
    ("model.dense_units=0", "model.dense_units must be at least 1 and at most 65536 but got 0."),
    ("training.epochs=0", "training.epochs must be at least 1 and at most 1000000 but got 0."),
    (
        "training.batch_size=0",
        "training.batch_size must be at least 1 and at most 1000000 but got 0.",
    ),
    ("training.learning_rate=0", "training.learning_rate must be greater than 0 but got 0.0."),
    (
        "training.learning_rate=nan",
        "training.learning_rate must be a finite number greater than 0 but got nan.",
    ),
    (
        "training.learning_rate=inf",
        "training.learning_rate must be a finite number greater than 0 but got inf.",
    ),
    (
        "training.validation_split=1",
        "training.validation_split must be greater than 0 and less than 1 but got 1.0.",
    ),
    (
        "training.reduce_on_plateau.factor=1",
        "training.reduce_on_plateau.factor must be greater than 0 and less than 1",
    ),
    (
        "training.augmentation.zoom=1",
        "training.augmentation.zoom must be at least 0 and less than 1 but got 1.0.",
    ),
    ("training.freeze=-1", "training.freeze must be at least 0 and at most 10 but got -1."),
    (
        "training.freeze=5",
        "training.freeze must be at most 4, the number of convolutions, but got 5.",
    ),
    (
        "training.freeze=1",
        "training.freeze must be 0 without training.initial_weights, since random weights would "
        "stay random, but got 1.",
    ),
    ("seed=-1", "seed must be at least 0 and at most 4294967295 but got -1."),
    ("seed=4294967296", "seed must be at least 0 and at most 4294967295 but got 4294967296."),
    (
        "training.epochs=99999999999999999999",
        "training.epochs must be at least 1 and at most 1000000 but got",
    ),
    (
        "model.name=a/b",
        "model.name must be at most 100 letters, digits, '.', '_' and '-', beginning with a letter",
    ),
    ("tracking.experiment=", "tracking.experiment must be at most 100 letters, digits,"),
    (f"tracking.experiment={'x' * 101}", "tracking.experiment must be at most 100 letters,"),
    (f"model.name={'x' * 101}", "model.name must be at most 100 letters,"),
    ("tracking.run_name=''", "tracking.run_name must be one line of 1 to 200 characters"),
    (f"tracking.run_name={'x' * 201}", "tracking.run_name must be one line of 1 to 200 characters"),
    ("++tracking.tags.team=''", "tracking.tags.team must be one line of 1 to 500 characters"),
    (
        "++tracking.tags.role=x",
        "tracking.tags must have keys of at most 100 letters, digits, '.', '_' and '-', beginning "
        "with a letter or digit, and none of svhn_sweep's or MLflow's own tags, but got 'role'.",
    ),
    ("++tracking.tags.config=x", "or MLflow's own tags, but got 'config'."),
    ("++tracking.tags.grid=x", "or MLflow's own tags, but got 'grid'."),
    # no value at all
    ("~seed", "seed must have a value but has none."),
    ("data=svhn_schema", "data.path must have a value but has none."),
    # filters that are no stack of pairs
    ("~model.filters.conv4", "model.filters must name 2, 4, 6, 8 or 10 convolutions"),
    ("+model.filters.conv6=8", "model.filters must name 2, 4, 6, 8 or 10 convolutions"),
    # not an override at all
    (
        "modle2",
        "'modle2' is neither a command nor an override; write "
        "optuna, ui, sync, predict, audit or key=value",
    ),
    ("model.dropout=intervl(0,1)", "has no function intervl; did you mean interval?"),
    ("model.dropout=nope(0,1)", "has no function nope; there are choice, range, interval, glob,"),
    ("model.dropout=interval(0)", "missing a required argument: 'end'); a search space is choice"),
    ("model.dropout=tag(log,interval(0,1)", "; a search space is choice(A,B), range(START,STOP,"),
    ("data.path=(1).h5", "a value with anything special in it needs quotes within quotes"),
]


@pytest.mark.parametrize(("overrides", "message"), BAD_OVERRIDES)
def test_the_message_names_the_key_the_rule_and_the_value(
    composed: ComposeConfig, overrides: str, message: str
) -> None:
    with pytest.raises(USER_ERRORS) as caught:
        composed(*overrides.split())
    message_shown = explain(caught.value)
    assert message in message_shown
    assert "\n" not in message_shown


@pytest.mark.parametrize(
    ("model", "filters", "epochs", "batch_size", "dropout", "batch_norm"),
    [
        ("model1", {"conv1": 16, "conv2": 32}, 20, 32, 0.0, False),
        ("model2", {"conv1": 16, "conv2": 32, "conv3": 32, "conv4": 64}, 30, 128, 0.5, True),
    ],
)
def test_the_baseline_has_the_values_of_the_notebook(
    composed: ComposeConfig,
    model: str,
    filters: dict[str, int],
    epochs: int,
    batch_size: int,
    dropout: float,
    batch_norm: bool,
) -> None:
    config = composed(f"model={model}")
    assert (config.model.name, config.model.filters) == (model, filters)
    assert (config.training.epochs, config.training.batch_size) == (epochs, batch_size)
    assert (config.model.dropout, config.model.batch_norm) == (dropout, batch_norm)
    assert (config.model.dense_units, config.model.leaky_relu_slope) == (32, 0.1)
    assert (config.training.learning_rate, config.training.validation_split, config.seed) == (
        1e-3,
        0.2,
        42,
    )
    assert not config.training.restore_best_weights
    assert not config.training.augmentation.enabled
    assert config.training.schedule == "constant"
    assert config.training.weight_decay == config.training.label_smoothing == 0
    assert config.training.ema_momentum == 0
    assert config.training.precision == "float32"


def test_the_default_model_is_model2(composed: ComposeConfig) -> None:
    assert composed() == composed("model=model2")


def test_training_and_search_space_follow_the_model(composed: ComposeConfig) -> None:
    assert "model.filters.conv4" not in composed("model=model1").search_space
    assert composed("model=model1", "training=model2").training.epochs == 30


def test_a_third_block_can_be_added(composed: ComposeConfig) -> None:
    assert (
        composed("+model.filters.conv5=64", "+model.filters.conv6=64").model.filters["conv6"] == 64
    )


def test_flatten_omits_the_settings_of_disabled_parts(composed: ComposeConfig) -> None:
    off = dict(flatten(composed().training))
    on = dict(flatten(composed("training.augmentation.enabled=true").training))
    assert [key for key in off if key.startswith("augmentation")] == ["augmentation.enabled"]
    assert on["augmentation.zoom"] == 0.1
    assert dict(flatten(composed().model))["filters.conv1"] == 16


def test_each_part_of_a_training_that_may_be_unused_is_used_with_what_it_needs(
    composed: ComposeConfig,
) -> None:
    training = composed().training
    parts = {f"training.{name}" for name, part in vars(training).items() if is_dataclass(part)}
    assert parts == set(NEEDS)
    unused = dict(flatten(training, "training."))
    for part, needed in NEEDS.items():
        used = dict(flatten(composed(needed).training, "training."))
        assert [key for key in used.keys() - unused.keys() if key.startswith(f"{part}.")], part
