"""Where the time of a sweep went, as the journals of its trials tell."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from svhn_sweep.tracking import journal


@dataclass(frozen=True)
class Trial:
    """When its worker took it up and let go of it, and its epochs, validation included; all times
    in seconds.

    Attributes:
        epochs: the metrics of each, from 1, and when it had `ended`, since 1970.
    """

    began: float
    ended: float
    epochs: dict[int, dict[str, float]]

    @property
    def training(self) -> float:
        """Seconds of its epochs."""
        return sum(epoch["epoch_seconds"] for epoch in self.epochs.values())

    @property
    def first_epoch(self) -> float:
        """When it began."""
        return self.epochs[1]["ended"] - self.epochs[1]["epoch_seconds"]


def trial(folder: Path) -> Trial:
    """Of a trial that was trained in one go."""
    times: dict[str, float] = {}
    epochs: dict[int, dict[str, float]] = {}
    for event, _ in journal.read(folder):
        time = event["time"] / 1000
        times[event["kind"]] = time
        if event["kind"] == "metrics" and event["step"] > 0:
            epochs[event["step"]] = {
                key: float(value) for key, value in event["values"].items()
            } | {"ended": time}
    return Trial(times["start"], times["end"], epochs)


def shares(trials: list[Trial], begun: float, ended: float, workers: int) -> dict[str, float]:
    """Of the workers' time from the command's start to its end, by what it went to; all of them
    together are 1.
    """
    first = min(trial.began for trial in trials)
    last = max(trial.ended for trial in trials)
    parts = {
        "epochs": sum(trial.training for trial in trials),
        "start and report": workers * ((first - begun) + (ended - last)),
        "waiting for the last trial": sum(
            last - end for end in sorted(trial.ended for trial in trials)[-workers:]
        ),
    }
    whole = workers * (ended - begun)
    return {part: seconds / whole for part, seconds in parts.items()} | {
        "bookkeeping": 1 - sum(parts.values()) / whole
    }


def found(trials: Iterable[Trial], begun: float) -> list[tuple[float, float]]:
    """When, in seconds after the command's start, which validation accuracy was seen."""
    return sorted(
        (epoch["ended"] - begun, epoch["val/accuracy"])
        for trial in trials
        for epoch in trial.epochs.values()
    )


def between_epochs(trials: Iterable[Trial]) -> float:
    """The median of the seconds between the end of an epoch and the beginning of the next."""
    pairs = [pair for trial in trials for pair in pairwise(trial.epochs.values())]
    return statistics.median(
        after["ended"] - after["epoch_seconds"] - before["ended"] for before, after in pairs
    )


def between_trials(trials: Iterable[Trial]) -> list[float]:
    """Seconds between the last epoch of a trial and the first of the next, in one worker."""
    ordered = sorted(trials, key=lambda trial: trial.began)
    return [
        after.first_epoch - before.epochs[max(before.epochs)]["ended"]
        for before, after in pairwise(ordered)
    ]


def tracing(trial: Trial) -> float:
    """What its first epoch took longer than the others did, in seconds."""
    first, *later = [epoch["epoch_seconds"] for epoch in trial.epochs.values()]
    return first - statistics.median(later)
