"""The plan of one study: its baseline, search space and budget, and the overrides of its trials."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from svhn_sweep.config.model_size import count_parameters
from svhn_sweep.config.overrides import pin_overrides, to_override
from svhn_sweep.config.schema import Config, compose_config
from svhn_sweep.config.short_names import short_names
from svhn_sweep.files import write_atomically
from svhn_sweep.sweep.plan.distributions import bounds, snap_to_step
from svhn_sweep.sweep.plan.formatting import format_param
from svhn_sweep.sweep.plan.search_space import Params, SearchSpace
from svhn_sweep.training.initial_weights import InitialWeights

BASELINE_NUMBER = 0  # of the baseline's trial in its study
MODEL = "model."
FILTERS = "model.filters."
SIZE_KEYS = ("model.dense_units", "model.batch_norm")  # the other keys that change the parameters
MAX_COUNTED_CONFIGS = 20_000  # takes a second


def trial_name(number: int) -> str:
    """Returns a trial's name by itself: `baseline`, or for example `trial 7`."""
    return "baseline" if number == BASELINE_NUMBER else f"trial {number}"


def trial_in_sentence(number: int) -> str:
    """Returns a trial's name within a sentence: `the baseline`, or for example `trial 7`."""
    return "the baseline" if number == BASELINE_NUMBER else f"trial {number}"


@dataclass(frozen=True)
class Plan:
    """A plan of one study.

    Attributes:
        name: The name of the study and of its folder.
        folder: The folder of the study; each trial has a folder in it.
        config: The baseline, with a resolved data source.
        fixed: The overrides that all trials share.
        space: The explored config keys.
        enqueued_trials: The params of the first trials; in a search only the baseline's.
        n_trials: The number of trials at the end; None if a race decides.
        fingerprint: A hash of everything that makes trials comparable.
        data_sha256: The SHA-256 of the data file.
        initial_weights: What all trials begin with; None means random weights.
        max_parameters: The most parameters of a trial's model, the baseline's apart; None means no
            limit.
        data_copies: How many images are in two of its splits; empty if none is.
        role: The value of the MLflow tag `role` of all trials but the baseline.
    """

    name: str
    folder: Path
    config: Config
    fixed: tuple[str, ...]
    space: SearchSpace
    enqueued_trials: Sequence[Params]
    n_trials: int | None
    fingerprint: str
    data_sha256: str
    initial_weights: InitialWeights | None
    max_parameters: int | None
    data_copies: str = field(default="", kw_only=True)

    role = "trial"

    @property
    def parent_run_dir(self) -> Path:
        """The folder of the MLflow run that is the parent of the trials' runs."""
        return self.folder

    @property
    def kept_weights(self) -> InitialWeights | None:
        """The copy of the initial weights in the study's folder, which `keep_weights` writes."""
        if self.initial_weights is None:
            return None
        return replace(self.initial_weights, file=self.parent_run_dir / "initial_weights.keras")

    def keep_weights(self) -> None:
        """Copies the initial weights into the study's folder, which must exist."""
        if self.initial_weights is not None and self.kept_weights is not None:
            content = self.initial_weights.file.read_bytes()
            write_atomically(self.kept_weights.file, content)

    def trial_dir(self, number: int) -> Path:
        """Returns the folder of a trial, which is the same in all its attempts."""
        return self.folder / f"trial-{number:04d}"

    def overrides(self, params: Params, threads: int) -> list[str]:
        """Returns all overrides of a trial, with nothing left to be resolved."""
        config = replace(self.config, training=replace(self.config.training, threads=threads))
        return pin_overrides([*self.fixed, *self.trial_overrides(params)], config)

    def trial_overrides(self, params: Params) -> list[str]:
        """Returns the overrides that distinguish a trial from the others of the study."""
        return [
            to_override(key, snap_to_step(self.space[key], value)) for key, value in params.items()
        ]

    def epochs(self, params: Params) -> int:
        """Returns the epochs that a trial is trained for."""
        overrides = self.trial_overrides(params)
        if any(item.startswith(("training=", "training.epochs=")) for item in overrides):
            return compose_config([*self.fixed, *overrides]).training.epochs
        return self.config.training.epochs

    def fits(self, params: Params) -> bool:
        """Returns whether the model of a trial has at most `max_parameters`."""
        return self.max_parameters is None or self.parameters(params) <= self.max_parameters

    def parameters(self, params: Params) -> int:
        """Counts the parameters of a trial's model."""
        model = deepcopy(self.config.model)
        for key, value in params.items():
            if key.startswith(FILTERS):
                model.filters[key.removeprefix(FILTERS)] = int(str(value))
            elif key.startswith(MODEL):
                setattr(model, key.removeprefix(MODEL), value)
        return count_parameters(model)

    def with_smallest_model(self, params: Params) -> Params:
        """Returns the params with those of the smallest model of the search space."""
        smallest = {
            key: min(value for value in bounds(self.space[key]) if isinstance(value, int))
            for key in params
            if key.startswith(FILTERS) or key in SIZE_KEYS
        }
        return {**params, **smallest}

    @cached_property
    def n_configs(self) -> int | None:
        """The number of configs that can be tried; None if there is no end or it is not counted.

        The baseline is one of them, even if its model is larger than `max_parameters`.
        """
        size = self.space.size
        if size is None or self.max_parameters is None:
            return size
        if size > MAX_COUNTED_CONFIGS:
            return None
        baseline = self.enqueued_trials[0]
        n_fitting = sum(map(self.fits, self.space.points_from(baseline, limit=size)))
        return n_fitting + (not self.fits(baseline))

    @property
    def max_epochs(self) -> int:
        """The most epochs that a trial of the study can have."""
        keys = [key for key in ("training", "training.epochs") if key in self.space]
        params = [{key: value} for key in keys for value in bounds(self.space[key])]
        return max(map(self.epochs, params), default=self.config.training.epochs)

    def is_baseline(self, number: int) -> bool:
        """Whether the other trials are compared with this one."""
        return number == BASELINE_NUMBER

    def run_name(self, number: int, params: Params) -> str:
        """Returns the name of the trial's MLflow run."""
        return f"{self.config.model.name} · {trial_name(number)}"

    def describe(self, number: int, params: Params) -> str:
        """Describes the trial's params in a few words, for the terminal."""
        if number == BASELINE_NUMBER:
            return "baseline"
        names = short_names(list(params))
        return ", ".join(
            f"{names[key]} {format_param(key, value)}" for key, value in params.items()
        )
