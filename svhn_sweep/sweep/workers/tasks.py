"""What a worker does, on this machine or on a node: trains trials, evaluates and times models."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import initialize_config_dir

from svhn_sweep import data
from svhn_sweep.config.error_messages import explain
from svhn_sweep.config.overrides import override_value, shell_command
from svhn_sweep.config.schema import Config, compose_config, conf_dir, register_schema
from svhn_sweep.data.splits import Splits
from svhn_sweep.errors import DataError, OutOfMemoryError
from svhn_sweep.sweep.plan import settings
from svhn_sweep.sweep.plan.settings import LOG_FORMAT
from svhn_sweep.sweep.workers.evaluation_requests import (
    EvaluateRequest,
    EvaluateResult,
    TimeRequest,
    TimeResult,
)
from svhn_sweep.sweep.workers.protocol import NodeFault, OutOfMemory, TrainRequest, TrialEnded
from svhn_sweep.trial import TrialOutcome, run_trial
from svhn_sweep.trial_end import MACHINE_FAULTS, TRIAL_LOG
from svhn_sweep.trial_status import TrialStatus

if TYPE_CHECKING:  # it imports TensorFlow
    from svhn_sweep.training.evaluation import Evaluation


def train_trial(
    request: TrainRequest,
    folder: Path,
    load_digits: Callable[[Config], Splits],
    should_stop: Callable[[int, dict[str, float]], bool],
    config_dirs: tuple[str, ...] | None = None,
) -> TrialEnded | OutOfMemory | NodeFault:
    """Trains a trial to its end; every error but an interruption is returned as an event.

    Args:
        request: The trial.
        folder: The trial's folder on this machine; an interrupted trial in it is resumed.
        load_digits: Returns the digits that a config names.
        should_stop: Is called after each epoch with its number, from 1, and its metrics; returns
            whether to prune the trial.
        config_dirs: The paths of the request's config folders on this machine, if they differ.

    Returns:
        The last of the trial's events.
    """
    try:
        config = compose(
            request.overrides, request.config_dirs if config_dirs is None else config_dirs
        )
    except Exception as error:  # noqa: BLE001  # Hydra's and OmegaConf's, of the most various types
        # The driver composed the same: a file in conf/ or in the user's folder has changed.
        return NodeFault(f"the trial's config cannot be composed: {explain(error)}")
    try:
        outcome = _run(request, config, folder, load_digits, should_stop)
    except (OutOfMemoryError, MemoryError) as error:
        return OutOfMemory(str(error) or "MemoryError")
    except DataError as error:
        return NodeFault(str(error))
    except MACHINE_FAULTS as error:
        return NodeFault(f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001  # one trial has failed; the sweep goes on
        return TrialEnded(TrialStatus.failed, f"{type(error).__name__}: {error}")
    return TrialEnded(outcome.status, outcome.reason)


def _run(
    request: TrainRequest,
    config: Config,
    folder: Path,
    load_digits: Callable[[Config], Splits],
    should_stop: Callable[[int, dict[str, float]], bool],
) -> TrialOutcome:
    splits = _load(config, request.data_sha256, load_digits)
    command = shell_command(request.overrides, request.config_dirs)
    with _log_to(folder / TRIAL_LOG):
        return run_trial(
            config,
            splits,
            folder,
            command,
            request.run_info,
            should_stop,
            request.initial_weights,
            resumable=True,
            shares_device=True,
        )


def _load(config: Config, sha256: str, load_digits: Callable[[Config], Splits]) -> Splits:
    splits = load_digits(config)
    if splits.sha256 != sha256:
        raise DataError(
            f"{splits.path} must not change during a sweep but has another SHA-256 now."
        )
    return splits


def evaluate_models(request: EvaluateRequest) -> EvaluateResult:
    """Evaluates models on test."""
    splits = data.load(compose(request.overrides, request.config_dirs).data, test=True)
    evaluations = {
        name: [_evaluate_model(request, name, run, splits) for run in runs]
        for name, runs in request.models.items()
    }
    return EvaluateResult(
        {name: [item.accuracy for item in items] for name, items in evaluations.items()},
        {name: [item.calibration_error for item in items] for name, items in evaluations.items()},
    )


def time_models(request: TimeRequest) -> TimeResult:
    """Times models on one thread."""
    from svhn_sweep.training.device import use_threads
    from svhn_sweep.training.inference_time import inference_seconds
    from svhn_sweep.training.model import build_model

    def seconds(overrides: tuple[str, ...]) -> list[float]:
        config = compose(overrides, request.config_dirs)
        return inference_seconds(build_model(config.model, config.training.precision, config.seed))

    use_threads(1)
    return TimeResult({number: seconds(item) for number, item in request.overrides.items()})


def _evaluate_model(request: EvaluateRequest, name: str, run: Path, splits: Splits) -> "Evaluation":
    """The evaluation of a run's model; writes the reports if the run is to be plotted."""
    from svhn_sweep.tracking.saved_model import load_model
    from svhn_sweep.training.evaluation import evaluate, predictor

    assert splits.x_test is not None
    assert splits.y_test is not None
    predict = predictor(load_model(run / "model"))
    evaluation = evaluate(predict, splits.x_test, splits.y_test, "test")
    if run == request.plotted[name]:
        n_seeds = len(request.models[name])
        choice = f", the best of {n_seeds} seeds on validation" if n_seeds > 1 else ""
        title = f"{name}{choice}\non the test split of {splits.path.name}"
        write_reports(evaluation, request.folder / "test" / name, title)
    return evaluation


def write_reports(evaluation: "Evaluation", folder: Path, title: str) -> None:
    """Writes an evaluation's reports and its confusion matrix, also as a picture with the title."""
    from svhn_sweep.training import figures

    evaluation.write(folder)
    heatmap = figures.confusion_heatmap(evaluation, f"{title}: accuracy {evaluation.accuracy:.2%}")
    heatmap.savefig(folder / "confusion_matrix" / f"{evaluation.split}.png")


def compose(overrides: tuple[str, ...], config_dirs: tuple[str, ...]) -> Config:
    """Returns the config of these overrides, as the command line composes it.

    Args:
        overrides: Hydra overrides.
        config_dirs: The user's own config folders.
    """
    register_schema()
    settings.register()  # a user's file may choose the sweeper, which a trial has no use for
    paths = ",".join(override_value(f"file://{folder}") for folder in config_dirs)
    search_path = [f"hydra.searchpath=[{paths}]"] if config_dirs else []
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose_config([*overrides, *search_path])


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """Sends Python's log messages to a file instead of the present handlers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    root = logging.getLogger()
    previous_handlers = root.handlers
    previous_level = root.level
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers = previous_handlers
        root.setLevel(previous_level)
        handler.close()
