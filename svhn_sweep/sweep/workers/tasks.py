"""What a worker does, wherever it runs: train a trial, evaluate models on test."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir

from svhn_sweep import data, provenance
from svhn_sweep.config.schema import CONFIG, Config, conf_dir, from_composed, register_schema
from svhn_sweep.data.splits import Splits
from svhn_sweep.errors import DataError, OutOfMemoryError
from svhn_sweep.provenance import quoted
from svhn_sweep.sweep.plan.settings import LOG_FORMAT
from svhn_sweep.sweep.workers.protocol import (
    EvaluateRequest,
    EvaluateResult,
    NodeFault,
    OutOfMemory,
    TrainRequest,
    TrialEnded,
)
from svhn_sweep.trial import run_trial
from svhn_sweep.trial_status import TrialStatus


def train_trial(
    request: TrainRequest,
    folder: Path,
    load_digits: Callable[[Config], Splits],
    should_stop: Callable[[int, dict[str, float]], bool],
    config_dirs: tuple[str, ...] | None = None,
) -> TrialEnded | OutOfMemory | NodeFault:
    """Train a trial to its end; whatever goes wrong is in what is returned.

    Args:
        request: what to train.
        folder: the trial's own, on this machine; what an interrupted trial left there is continued.
        load_digits: gives the digits of a config.
        should_stop: called after each epoch with its number, from 1, and its metrics.
        config_dirs: where the request's own folders of configs are on this machine, if not where it
            says.
    """
    try:
        config = _compose(
            request.overrides, request.config_dirs if config_dirs is None else config_dirs
        )
        splits = _load(config, request.data_sha256, load_digits)
        command = provenance.command(request.overrides, request.config_dirs)
        with _log_in(folder):
            outcome = run_trial(config, splits, folder, command, request.run_info, should_stop)
    except (OutOfMemoryError, MemoryError) as error:
        return OutOfMemory(str(error) or "MemoryError")
    except (
        OSError,
        _DigitsError,
    ) as error:  # a full disk, a data file that is away: no trial's own doing
        return NodeFault(f"{type(error).__name__}: {error}".removeprefix("_DigitsError: "))
    except Exception as error:  # noqa: BLE001  # one trial has failed; the sweep goes on
        return TrialEnded(TrialStatus.failed, f"{type(error).__name__}: {error}")
    return TrialEnded(outcome.status, outcome.reason)


class _DigitsError(Exception):
    """The digits cannot be read here, or are others."""


def _load(config: Config, sha256: str, load_digits: Callable[[Config], Splits]) -> Splits:
    try:
        splits = load_digits(config)
    except DataError as error:
        raise _DigitsError(str(error)) from error
    if splits.sha256 != sha256:
        raise _DigitsError(
            f"{splits.path} must not change during a sweep but has another SHA-256 now."
        )
    return splits


def evaluate_models(request: EvaluateRequest) -> EvaluateResult | TrialEnded:
    """Evaluate models on test; what goes wrong is in what is returned."""
    from svhn_sweep.tracking.saved_model import load_model
    from svhn_sweep.training import figures
    from svhn_sweep.training.evaluation import evaluate, predictor

    accuracies: dict[str, list[float]] = {}
    try:
        splits = data.load(_compose(request.overrides, request.config_dirs).data, test=True)
        assert splits.x_test is not None
        assert splits.y_test is not None
        for arm, runs in request.models.items():
            for run in runs:
                evaluation = evaluate(
                    predictor(load_model(run / "model")), splits.x_test, splits.y_test, "test"
                )
                accuracies.setdefault(arm, []).append(evaluation.accuracy)
                if run == request.shown[arm]:
                    evaluation.write(request.folder / "test" / arm)
                    one = f", the best of {len(runs)} seeds on validation" if len(runs) > 1 else ""
                    title = (
                        f"{arm}{one}\non the test split of {splits.path.name}: "
                        f"accuracy {evaluation.accuracy:.2%}"
                    )
                    matrix = figures.confusion_heatmap(evaluation, title)
                    matrix.savefig(request.folder / "test" / arm / "confusion_matrix" / "test.png")
    except Exception as error:  # noqa: BLE001  # the driver says so
        return TrialEnded(TrialStatus.failed, f"{type(error).__name__}: {error}")
    return EvaluateResult(accuracies)


def _compose(overrides: tuple[str, ...], config_dirs: tuple[str, ...]) -> Config:
    """The config of these overrides, as the command line would compose it."""
    register_schema()
    search_path = [
        f"hydra.searchpath=[{','.join(quoted(f'file://{folder}') for folder in config_dirs)}]"
    ]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return from_composed(compose(CONFIG, [*overrides, *(search_path if config_dirs else [])]))


@contextmanager
def _log_in(folder: Path) -> Iterator[None]:
    """Python's log goes to the trial's folder; afterwards nowhere but to stderr."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(folder / "trial.log")
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    root = logging.getLogger()
    before = root.handlers, root.level
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers, level = before
        root.setLevel(level)
        handler.close()
