"""The messages that ask for predictions of saved models, after the search and the confirmation."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

Result = TypeVar("Result")


class ModelsRequest(Generic[Result]):
    """Asks a worker on the driver's machine to predict with models, and is answered by a `Result`.

    Attributes:
        failure: What there is not without a result; begins the error message.
        advice: What the user can do then; ends it.
        single_thread: Whether the worker must compute with one thread on the CPU.
    """

    failure: ClassVar[str]
    advice: ClassVar[str] = "the same command tries again"
    single_thread: ClassVar[bool] = False


@dataclass(frozen=True)
class EnsembleResult:
    """Answers an `EnsembleRequest`; all scores are those of the judging half.

    Attributes:
        best: The number of the first candidate.
        members: How often each trial's model counts, by the number of the trial.
        parameters: The number of the ensemble's parameters.
        images: The number of images that judged.
        accuracy: The ensemble's accuracy, 0..1.
        best_accuracy: The best trial's accuracy, 0..1.
        ensemble_only: How many images only the ensemble predicts correctly.
        best_only: How many images only the best trial predicts correctly.
        macro_f1: The ensemble's mean F1 score, 0..1.
        calibration_error: The ensemble's expected calibration error, 0..1.
    """

    best: int
    members: dict[int, int]
    parameters: int
    images: int
    accuracy: float
    best_accuracy: float
    ensemble_only: int
    best_only: int
    macro_f1: float
    calibration_error: float


@dataclass(frozen=True)
class EnsembleRequest(ModelsRequest[EnsembleResult]):
    """Asks a worker to select an ensemble on one half of validation and judge it on the other.

    Attributes:
        overrides: Hydra overrides of a config that names the data and the validation split.
        config_dirs: The user's own config folders.
        candidates: Folders of runs that saved a model, by the number of their trial; the first is
            the search's best trial, with which the ensemble is compared.
        limit: The most different models in the ensemble.
        seed: Fixes the halves.
        folder: Receives the ensemble's folder, with its model and its reports.
    """

    failure = "no ensemble could be selected"
    advice = f"{ModelsRequest.advice}, and hydra.sweeper.ensemble=null leaves it out"

    overrides: tuple[str, ...]
    config_dirs: tuple[str, ...]
    candidates: dict[int, Path]
    limit: int
    seed: int
    folder: Path


@dataclass(frozen=True)
class EvaluateResult:
    """Answers an `EvaluateRequest`.

    Attributes:
        accuracies: Test accuracies in 0..1 by the request's names, in the order of its folders.
        calibration_errors: Expected calibration errors in 0..1, likewise.
    """

    accuracies: dict[str, list[float]]
    calibration_errors: dict[str, list[float]]


@dataclass(frozen=True)
class EvaluateRequest(ModelsRequest[EvaluateResult]):
    """Asks a worker to evaluate saved models on the test split.

    Attributes:
        overrides: Hydra overrides of a config that names the data.
        config_dirs: The user's own config folders.
        models: Folders of the runs that saved a model, by the name of the config they share.
        plotted: For each name the run whose reports and confusion matrix are written.
        folder: Receives `test/NAME/` with these files.
    """

    failure = "the models could not be evaluated on test"

    overrides: tuple[str, ...]
    config_dirs: tuple[str, ...]
    models: dict[str, tuple[Path, ...]]
    plotted: dict[str, Path]
    folder: Path


@dataclass(frozen=True)
class TimeResult:
    """Answers a `TimeRequest`.

    Attributes:
        seconds: For 1,000 images, of each of several passes, by the number of the trial.
    """

    seconds: dict[int, list[float]]


@dataclass(frozen=True)
class TimeRequest(ModelsRequest[TimeResult]):
    """Asks a worker how long models take to predict on one core.

    Attributes:
        overrides: Hydra overrides of each model's config, by the number of its trial.
        config_dirs: The user's own config folders.
    """

    failure = "the models could not be timed"
    single_thread = True

    overrides: dict[int, tuple[str, ...]]
    config_dirs: tuple[str, ...]


def ensemble_folder(members: Mapping[int, int]) -> str:
    """Returns the name of an ensemble's folder, for example `7-12x2-31`.

    Args:
        members: How often each trial's model counts, by the number of the trial.
    """
    counts = sorted(members.items())
    return "-".join(f"{trial}x{count}" if count > 1 else str(trial) for trial, count in counts)
