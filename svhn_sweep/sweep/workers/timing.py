"""The messages with which the driver has models timed; see `protocol`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TimeRequest:
    """Asks a worker how long models take to predict on one core.

    Attributes:
        overrides: Hydra overrides of each model's config, by the number of its trial.
        config_dirs: The user's own config folders.
    """

    overrides: dict[int, tuple[str, ...]]
    config_dirs: tuple[str, ...]


@dataclass(frozen=True)
class TimeResult:
    """Answers a `TimeRequest`.

    Attributes:
        seconds: For 1,000 images, of each of several passes, by the number of the trial.
    """

    seconds: dict[int, list[float]]
