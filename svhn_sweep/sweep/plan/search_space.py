"""The search space of a study: the distribution of each key, and where the key is explored."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from optuna.distributions import BaseDistribution

from svhn_sweep.config.overrides import Value, to_override
from svhn_sweep.errors import ConfigError
from svhn_sweep.sweep.plan.distributions import (
    format_distribution,
    from_index,
    n_points,
    snap_to_step,
    to_index,
)

Params = Mapping[str, Value]
Point = tuple[Value, ...]


@dataclass(frozen=True)
class Condition:
    """Restricts a key to the trials in which another key has certain values.

    Attributes:
        key: The other key, which is explored too.
        values: Its values.
    """

    key: str
    values: tuple[Value, ...]

    def holds(self, params: Params) -> bool:
        """Returns whether a trial with these params explores the key."""
        return self.key in params and params[self.key] in self.values

    def __str__(self) -> str:
        return f"if {' or '.join(to_override(self.key, value) for value in self.values)}"


class SearchSpace(Mapping[str, BaseDistribution]):
    """The distribution of each explored key; a key follows the one that its condition names.

    Attributes:
        conditions: By key; one without a condition is explored in each trial.
    """

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        conditions: Mapping[str, Condition] | None = None,
    ) -> None:
        """Orders the keys.

        Args:
            distributions: By key.
            conditions: By key; their keys are among the distributions.

        Raises:
            ConfigError: A condition depends on itself.
        """
        self.conditions = dict(conditions or {})
        self._distributions: dict[str, BaseDistribution] = {}
        for key in distributions:
            self._add(key, distributions, ())

    def _add(
        self, key: str, distributions: Mapping[str, BaseDistribution], dependents: tuple[str, ...]
    ) -> None:
        if key in dependents:
            raise ConfigError(f"{key} must not be explored on a condition that depends on {key}.")
        if key in self.conditions:
            self._add(self.conditions[key].key, distributions, (*dependents, key))
        self._distributions.setdefault(key, distributions[key])

    def __getitem__(self, key: str) -> BaseDistribution:
        """Returns the distribution of a key."""
        return self._distributions[key]

    def __iter__(self) -> Iterator[str]:
        """Yields the keys."""
        return iter(self._distributions)

    def __len__(self) -> int:
        """Returns the number of keys."""
        return len(self._distributions)

    def describe(self, key: str) -> str:
        """Formats the distribution and the condition of a key."""
        text = format_distribution(self[key])
        return f"{text}, {self.conditions[key]}" if key in self.conditions else text

    def applies(self, key: str, params: Params) -> bool:
        """Returns whether a trial with these params, of the keys before it, explores a key."""
        return key not in self.conditions or self.conditions[key].holds(params)

    def applied(self, params: Params) -> dict[str, Value]:
        """Returns the params that are explored together."""
        explored: dict[str, Value] = {}
        for key in self:
            if key in params and self.applies(key, explored):
                explored[key] = params[key]
        return explored

    def missing(self, params: Params) -> list[str]:
        """Lists the keys that a trial with these params explores too."""
        return [key for key in self if key not in params and self.applies(key, params)]

    def to_point(self, params: Params) -> Point:
        """Returns the exact values of a config; equal configs have equal points."""
        explored = self.applied(params)
        return tuple(
            snap_to_step(distribution, explored[key]) if key in explored else None
            for key, distribution in self.items()
        )

    @property
    def size(self) -> int | None:
        """The number of configs; None if a distribution is continuous."""
        unconditional = [key for key in self if key not in self.conditions]
        return math.prod(map(self._n_configs, unconditional)) or None

    def _n_configs(self, key: str) -> int:
        """Counts the configs of a key and of those whose conditions depend on it."""
        dependents = [other for other, on in self.conditions.items() if on.key == key]
        distribution = self[key]
        if not dependents:
            return n_points(distribution)
        values = [from_index(distribution, index) for index in range(n_points(distribution))]
        counts = [
            math.prod(
                self._n_configs(other)
                for other in dependents
                if value in self.conditions[other].values
            )
            for value in values
        ]
        return sum(counts) if all(counts) else 0

    def points_from(self, params: Params, limit: int) -> Iterator[dict[str, Value]]:
        """Yields different configs of a finite search space, the last key varies first.

        Args:
            params: The first config.
            limit: The most configs; after the last one of the space comes its first one.

        Yields:
            Configs; none if the space is continuous.
        """
        start = 0
        for key, distribution in self.items():
            index = to_index(distribution, params[key]) if key in params else 0
            start = start * n_points(distribution) + index
        total = math.prod(map(n_points, self.values()))
        points: set[Point] = set()
        for position in range(start, start + total):
            config = self.applied(self._combination(position % total))
            point = self.to_point(config)
            if len(points) == limit:
                return
            if point not in points:
                points.add(point)
                yield config

    def _combination(self, position: int) -> dict[str, Value]:
        """Returns a value for each key, whether it applies or not."""
        values: dict[str, Value] = {}
        for key, distribution in reversed(self._distributions.items()):
            position, index = divmod(position, n_points(distribution))
            values[key] = from_index(distribution, index)
        return values
