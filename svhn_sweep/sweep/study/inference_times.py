"""The times of predictions, which are measured after a search, in the study's user attribute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import optuna


@dataclass(frozen=True)
class InferenceTimes:
    """The seconds that models take for 1,000 images on one core, by the number of their trial.

    Attributes:
        processor: What they were measured on; empty if none was.
        medians: Of several passes.
        spreads: The slowest pass minus the fastest.
    """

    ATTRIBUTE = "seconds_per_1000_images"

    processor: str = ""
    medians: dict[int, float] = field(default_factory=dict)
    spreads: dict[int, float] = field(default_factory=dict)

    @classmethod
    def load(cls, study: optuna.Study) -> "InferenceTimes":
        """Reads the times of a study; there are none if nothing was measured."""
        stored = study.user_attrs.get(cls.ATTRIBUTE)
        if stored is None:
            return cls()
        by_number = {int(number): values for number, values in stored["trials"].items()}
        return cls(
            stored["processor"],
            {number: middle for number, (middle, _) in by_number.items()},
            {number: spread for number, (_, spread) in by_number.items()},
        )

    def extended(self, processor: str, passes: Mapping[int, Sequence[float]]) -> "InferenceTimes":
        """Returns these times and those of more models.

        Args:
            processor: What they were measured on; the same if there are any times yet.
            passes: Seconds of each pass, by the number of the trial.
        """
        return InferenceTimes(
            processor,
            self.medians | {number: median(seconds) for number, seconds in passes.items()},
            self.spreads
            | {number: max(seconds) - min(seconds) for number, seconds in passes.items()},
        )

    def save(self, study: optuna.Study) -> None:
        """Writes the times to the study."""
        trials = {
            str(number): [middle, self.spreads[number]] for number, middle in self.medians.items()
        }
        study.set_user_attr(self.ATTRIBUTE, {"processor": self.processor, "trials": trials})
