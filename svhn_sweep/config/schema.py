"""The schema of conf/: types and rules. The values are in the YAML files alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from hydra import compose
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from svhn_sweep.config.checks import check_filters, check_freeze, check_tags
from svhn_sweep.config.composition import composition_errors
from svhn_sweep.config.data_sources import MAX_SEED, SOURCES, DataConfig
from svhn_sweep.config.rules import Line, check_values, constrained, identifier, number

CONFIG_NAME = "config"  # conf/config.yaml, the primary config


class Precision(StrEnum):
    """The dtype policy of Keras layers; the softmax and all variables are float32 in each.

    `auto` stands for the fastest one that the hardware computes in without loss of accuracy.
    """

    auto = "auto"
    float32 = "float32"
    mixed_bfloat16 = "mixed_bfloat16"
    mixed_float16 = "mixed_float16"


class Schedule(StrEnum):
    """How the learning rate changes over the epochs.

    `plateau` is Keras' ReduceLROnPlateau on `val/loss`, `cosine` Keras' CosineDecay from epoch to
    epoch, to 0 after the last one.
    """

    constant = "constant"
    plateau = "plateau"
    cosine = "cosine"


@dataclass
class ModelConfig:
    """A CNN: pairs of 3x3 convolutions, a max pool after each pair, one hidden dense layer.

    Attributes:
        name: The name of its file in conf/model; appears in the names of runs and in titles.
        filters: The filters of each convolution: conv1, conv2 and so on; 2, 4, 6, 8 or 10 of them.
        batch_norm: Whether each max pool is followed by a batch normalization.
        dense_units: The units of the hidden dense layer.
        dropout: The rate after the hidden dense layer; 0 means no dropout layer.
        leaky_relu_slope: The slope of all activations for negative inputs.
    """

    name: str = identifier()
    filters: dict[str, int] = number(at_least=1, at_most=1024)
    batch_norm: bool = MISSING
    dense_units: int = number(at_least=1, at_most=65536)
    dropout: float = number(at_least=0, below=1)
    leaky_relu_slope: float = number(at_least=0, below=1)


@dataclass
class PlateauConfig:
    """Keras' ReduceLROnPlateau on `val/loss`, for the schedule `plateau`.

    Attributes:
        factor: Multiplies the learning rate on a plateau.
        patience: Epochs without improvement before that.
        min_learning_rate: The learning rate is never reduced below this.
    """

    factor: float = number(above=0, below=1)
    patience: int = number(at_least=0, at_most=1_000_000)
    min_learning_rate: float = number(at_least=0)


@dataclass
class AugmentationConfig:
    """Random changes of the training images.

    Attributes:
        enabled: Whether images are changed.
        shift: The largest shift in each direction, as a fraction of the image before the zoom.
        rotation: The largest rotation either way, as a fraction of a full turn.
        zoom: The largest zoom in or out, as a fraction of the image.
    """

    enabled: bool = MISSING
    shift: float = number(at_least=0, below=1)
    rotation: float = number(at_least=0, at_most=0.5)
    zoom: float = number(at_least=0, below=1)


@dataclass
class TrainingConfig:
    """How a model is trained.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images in each step.
        learning_rate: Adam's, at the beginning.
        schedule: How the learning rate changes over the epochs.
        reduce_on_plateau: The settings of the schedule `plateau`.
        weight_decay: The fraction of each weight, times the learning rate, that each step takes
            away (AdamW); biases and batch normalization have none.
        label_smoothing: The probability mass that is spread over all digits in the training loss.
        ema_momentum: The share that the average of the weights keeps at each step; each epoch is
            judged by the average then. 0 means no average.
        validation_split: The fraction of X_train, its end, that is used for validation.
        restore_best_weights: Whether the weights of the best epoch are kept, not the last one's.
        precision: The dtype policy of the layers.
        threads: TensorFlow's, on CPU; None means one for each core.
        augmentation: Random changes of the training images.
        initial_weights: The model whose weights the training begins with, in MLflow or a file; None
            means random ones.
        freeze: Convolutions, from the input, that keep the initial weights.
    """

    epochs: int = number(at_least=1, at_most=1_000_000)
    batch_size: int = number(at_least=1, at_most=1_000_000)
    learning_rate: float = number(above=0)
    schedule: Schedule = MISSING
    reduce_on_plateau: PlateauConfig = field(
        default_factory=PlateauConfig, metadata={"used_if": ("schedule", Schedule.plateau)}
    )
    weight_decay: float = number(at_least=0, below=1)
    label_smoothing: float = number(at_least=0, below=1)
    ema_momentum: float = number(at_least=0, below=1)
    validation_split: float = number(above=0, below=1)
    restore_best_weights: bool = MISSING
    precision: Precision = MISSING
    threads: int | None = number(at_least=1, at_most=1024)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    initial_weights: str | None = constrained(Line(1000))
    freeze: int = number(at_least=0, at_most=10)


@dataclass
class EvaluationConfig:
    """Which splits a model is evaluated on.

    Attributes:
        test: Whether on the test split too; None means yes in a single run, no in a multirun.
    """

    test: bool | None = None


@dataclass
class TrackingConfig:
    """What MLflow holds of a run.

    Attributes:
        experiment: The MLflow experiment; runs on synthetic digits add `-synthetic`.
        log_model: Whether the trained model is an artifact.
        run_name: The name of a single run, or of a study's run; None means what distinguishes it.
        tags: The user's own tags of each run.
    """

    experiment: str = identifier()
    log_model: bool = MISSING
    run_name: str | None = field(default=None, metadata={"rule": Line(200)})
    tags: dict[str, str] = field(default_factory=dict, metadata={"rule": Line(500)})


@dataclass
class Config:
    """The config of one trial.

    Attributes:
        model: The architecture.
        data: The data source.
        training: How the model is trained.
        search_space: Keys that a sweep explores, and their values in Hydra's override grammar.
        tracking: What MLflow holds of the run.
        evaluation: Which splits the model is evaluated on.
        seed: Determines the initial weights, the order of the batches, dropout and augmentation.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    search_space: dict[str, str] = field(default_factory=dict)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    seed: int = number(at_least=0, at_most=MAX_SEED)


def register_schema() -> None:
    """Registers the schema with Hydra under the names that conf/ uses."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for source, node in SOURCES.items():
        store.store(group="data", name=f"{source}_schema", node=node)


def conf_dir() -> Path:
    """Returns the path of conf/: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def compose_config(overrides: Sequence[str]) -> Config:
    """Composes conf/config.yaml with these overrides; Hydra must be initialized.

    Raises:
        ConfigError: See `to_config`. Hydra and OmegaConf raise their own errors.
    """
    return to_config(compose_node(overrides))


def compose_node(overrides: Sequence[str], *, with_hydra: bool = False) -> DictConfig:
    """Composes conf/config.yaml with these overrides, unchecked; Hydra must be initialized.

    Args:
        overrides: Hydra overrides.
        with_hydra: Whether the section `hydra` is kept.

    Raises:
        ConfigError: A library's error. Hydra and OmegaConf raise their own errors.
    """
    with composition_errors(overrides):
        return compose(CONFIG_NAME, list(overrides), return_hydra_config=with_hydra)


def to_config(composed: DictConfig) -> Config:
    """Converts what Hydra composed into a checked `Config`.

    Raises:
        ConfigError: A key is not in the schema, or a value is missing or breaks its rule.
    """
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)  # the first entry of conf/config.yaml's defaults list
    check_values(config)
    check_filters(config.model.filters)
    check_tags(config.tracking.tags)
    training = config.training
    check_freeze(training.freeze, config.model.filters, training.initial_weights)
    return config
