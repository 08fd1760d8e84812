"""Checks what depends on several values of a config: names of filters and tags, and `freeze`."""

import re

from svhn_sweep.config.rules import Identifier
from svhn_sweep.errors import ConfigError

# The tags that the program sets itself, and MLflow's.
OWN_TAGS = re.compile(
    r"(role|study|sampler|pruner|grid|config|device|precision|version)$"
    r"|(trial|data|git|journal|mlflow)\."
)


def check_filters(filters: dict[str, int]) -> None:
    """Raises a ConfigError unless these are the filters of pairs of convolutions."""
    expected = [f"conv{index}" for index in range(1, len(filters) + 1)]
    if sorted(filters) != sorted(expected) or len(filters) not in (2, 4, 6, 8, 10):
        raise ConfigError(
            "model.filters must name 2, 4, 6, 8 or 10 convolutions, "
            "conv1, conv2 and so on without a gap, "
            f"but got {', '.join(filters) or 'none'}."
        )


def check_freeze(freeze: int, filters: dict[str, int], initial_weights: str | None) -> None:
    """Raises a ConfigError unless there are so many convolutions, and weights to keep in them."""
    if freeze > len(filters):
        raise ConfigError(
            f"training.freeze must be at most {len(filters)}, the number of convolutions, "
            f"but got {freeze}."
        )
    if freeze > 0 and initial_weights is None:
        raise ConfigError(
            "training.freeze must be 0 without training.initial_weights, since random weights "
            f"would stay random, but got {freeze}."
        )


def check_tags(tags: dict[str, str]) -> None:
    """Raises a ConfigError for a tag that the user cannot set."""
    rule = Identifier()
    for key in tags:
        if key not in rule or OWN_TAGS.match(key):
            raise ConfigError(
                f"tracking.tags must have keys of {rule} and none of svhn_sweep's or MLflow's own "
                f"tags, but got {key!r}."
            )
