"""A sampler that draws no config that a trial of the study has, and no model that is too large."""

from collections.abc import Callable, Sequence

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from svhn_sweep.config.overrides import Value
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.plan.search_space import Params
from svhn_sweep.sweep.study.trial_values import started_points

MAX_REPEATS = 10  # drawn by the sampler, before the next untried config of a finite space is taken
MAX_DRAWS = 500  # take some seconds


class UntriedSampler(BaseSampler):
    """Lets another sampler draw until the config is new: training is deterministic.

    A config whose model has more than the plan's `max_parameters` is drawn again too, so that it
    costs nothing. Optuna's constraints would need a trial for each of them.

    Where the space is finite and the other sampler repeats itself, the next untried config in the
    space's order after its last draw is taken. Configs of running trials are not drawn either.
    """

    def __init__(
        self,
        make_sampler: Callable[[int], BaseSampler],
        plan: Plan,
        trials: Callable[[], Sequence[FrozenTrial]],
    ) -> None:
        """Wraps the samplers of all trials.

        Args:
            make_sampler: Returns the sampler of the trial with this number.
            plan: Its search space and `max_parameters`.
            trials: Returns the trials of the study that were ever started. Optuna's `study` is no
                source: Hyperband passes one that lacks the trials of other brackets.
        """
        self.make_sampler = make_sampler
        self.sampler = make_sampler(0)
        self.plan = plan
        self.trials = trials

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Returns the whole space: `sample_relative` draws all keys that apply."""
        return dict(self.plan.space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Value]:
        """Draws a whole config, with the values that the trial has already."""
        space = self.plan.space
        given = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        if not space.missing(given):
            return given
        tried = started_points(space, [t for t in self.trials() if t.number != trial.number])
        repeats = 0
        for _ in range(MAX_DRAWS):
            params = self._draw(study, trial, given)
            if self.plan.fits(params):
                if space.to_point(params) not in tried:
                    return params
                repeats += 1
            if repeats == MAX_REPEATS:
                break
        untried = (
            candidate
            for candidate in space.points_from(params, limit=space.size or 0)
            if given.items() <= candidate.items()
            and space.to_point(candidate) not in tried
            and self.plan.fits(candidate)
        )
        return next(untried, {**self.plan.with_smallest_model(params), **given})

    def _draw(self, study: optuna.Study, trial: FrozenTrial, given: Params) -> dict[str, Value]:
        """Draws as Optuna does without this class: keys together, then what is left one by one."""
        together = self.sampler.infer_relative_search_space(study, trial)
        drawn = self.sampler.sample_relative(study, trial, together)
        params: dict[str, Value] = {}
        for key, distribution in self.plan.space.items():
            if not self.plan.space.applies(key, params):
                continue
            if key in given:
                params[key] = given[key]
            elif key in drawn:
                params[key] = drawn[key]
            else:
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
        """Makes the sampler of a trial."""
        self.sampler = self.make_sampler(trial.number)
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
