"""A sampler that draws no config again that a trial of the study has."""

from collections.abc import Callable, Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from svhn_sweep.config.overrides import Value
from svhn_sweep.sweep.plan.distributions import points_from, to_point
from svhn_sweep.sweep.study.trial_values import started_points

MAX_DRAWS = 10  # by the sampler, before the next untried config of a finite space is taken


class UntriedSampler(BaseSampler):
    """Lets another sampler draw until the config is new: training is deterministic.

    Where the space is finite and the other sampler repeats itself, the next untried config in the
    space's order after its last draw is taken. Configs of running trials are not drawn either.
    """

    def __init__(
        self,
        sampler: BaseSampler,
        space: Mapping[str, BaseDistribution],
        trials: Callable[[], Sequence[FrozenTrial]],
    ) -> None:
        """Wraps a sampler.

        Args:
            sampler: Draws the configs.
            space: The distribution of each key that every trial draws.
            trials: Returns the trials of the study that were ever started. Optuna's `study` is no
                source: Hyperband passes one that lacks the trials of other brackets.
        """
        self.sampler = sampler
        self.space = dict(space)
        self.trials = trials

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Returns the whole space: `sample_relative` draws all keys."""
        return self.space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Value]:
        """Draws a whole config, with the values that the trial has already."""
        given = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        tried = started_points(self.space, [t for t in self.trials() if t.number != trial.number])
        for _ in range(MAX_DRAWS):
            params = self._draw(study, trial) | given
            if to_point(self.space, params) not in tried:
                return params
        candidates = points_from(self.space, params, limit=len(tried) + 1)
        untried = (
            candidate
            for candidate in candidates
            if given.items() <= candidate.items() and to_point(self.space, candidate) not in tried
        )
        return dict(next(untried, params))

    def _draw(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Value]:
        """Draws as Optuna does without this class: keys together, then what is left one by one."""
        together = self.sampler.infer_relative_search_space(study, trial)
        params = self.sampler.sample_relative(study, trial, together)
        for key, distribution in self.space.items():
            if key not in params:
                params[key] = self.sample_independent(study, trial, key, distribution)
        return params

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Value:
        """Draws one key with the other sampler."""
        value: Value = self.sampler.sample_independent(study, trial, param_name, param_distribution)
        return value

    def reseed_rng(self) -> None:
        """Seeds the other sampler anew."""
        self.sampler.reseed_rng()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Prepares the other sampler for a trial."""
        self.sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Tells the other sampler how a trial ended."""
        self.sampler.after_trial(study, trial, state, values)
