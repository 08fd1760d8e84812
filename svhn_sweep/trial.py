"""Runs one trial: trains a model, evaluates it, and records both in the run's folder."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from svhn_sweep import data, environment
from svhn_sweep.config.data_sources import source_name
from svhn_sweep.config.flatten import flatten
from svhn_sweep.config.model_size import count_multiply_adds
from svhn_sweep.config.schema import Config
from svhn_sweep.data.splits import FitData, Images, Splits
from svhn_sweep.import_lock import import_lock
from svhn_sweep.native_output import redirect_native_output
from svhn_sweep.provenance import code_tags
from svhn_sweep.tracking import markdown, saved_views
from svhn_sweep.tracking.journal import Journal, Scalar
from svhn_sweep.tracking.run_info import RunInfo
from svhn_sweep.training.initial_weights import InitialWeights, freeze, take_over
from svhn_sweep.trial_end import CHECKPOINT, TRIAL_LOG, end_run, record_errors
from svhn_sweep.trial_status import TrialStatus

if TYPE_CHECKING:  # these import TensorFlow, which takes 5 s: bad data is reported before
    import keras
    from matplotlib.figure import Figure

    from svhn_sweep.training.evaluation import Evaluation
    from svhn_sweep.training.result import ShouldStop, TrainResult

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialOutcome:
    """The result of a trial that was not interrupted and did not fail.

    Attributes:
        status: complete, pruned or diverged.
        summary_metrics: Logged at the trial's end, by MLflow's keys; accuracies in 0..1.
        reason: Why it diverged; else empty.
    """

    status: TrialStatus
    summary_metrics: dict[str, float]
    reason: str = ""


def run_trial(
    config: Config,
    splits: Splits,
    folder: Path,
    command: str,
    run_info: RunInfo,
    should_stop: "ShouldStop | None" = None,
    initial_weights: InitialWeights | None = None,
    *,
    resumable: bool = False,
    shares_device: bool = False,
) -> TrialOutcome:
    """Trains and evaluates a model and records everything about it in a folder.

    Args:
        config: A checked config, in which data source, precision and threads are resolved.
        splits: The digits of that source; if they have a test split, it is evaluated too.
        folder: The trial's own folder.
        command: The command that reproduces the trial.
        run_info: The run's name and tags.
        should_stop: Is called after each epoch; True ends the fit as pruned.
        initial_weights: Those that the config names; None for random ones.
        resumable: Whether an interrupted trial in the folder is resumed, and this one can be.
        shares_device: Whether too little memory interrupts the trial: others may use the device.

    Raises:
        DataError: There are too few digits to split; nothing is recorded then.
        OutOfMemoryError: The device has too little memory for this and what else runs on it.
    """
    fit_data = data.split_validation(splits, config.training.validation_split)
    with Journal(folder) as journal:
        run_info.start(journal, _initial_tags(splits))
        if "study" not in run_info.tags:
            key, name, state = saved_views.single_runs()
            journal.set_view(key, name, json.dumps(state))
        with (
            record_errors(journal, resumable=resumable, shares_device=shares_device),
            redirect_native_output(folder / TRIAL_LOG),
        ):
            return _train_and_evaluate(
                config, splits, fit_data, journal, command, should_stop, initial_weights, resumable
            )


def experiment_name(config: Config) -> str:
    """Returns the MLflow experiment; synthetic digits never share one with real ones."""
    suffix = "-synthetic" if source_name(config.data) == "synthetic" else ""
    return config.tracking.experiment + suffix


def _train_and_evaluate(
    config: Config,
    splits: Splits,
    fit_data: FitData,
    journal: Journal,
    command: str,
    should_stop: "ShouldStop | None",
    initial_weights: InitialWeights | None,
    resumable: bool,
) -> TrialOutcome:
    with import_lock:
        from svhn_sweep.training import figures
        from svhn_sweep.training.device import use_deterministic_operations, use_threads
        from svhn_sweep.training.fit import fit

    training = config.training
    use_threads(training.threads)
    use_deterministic_operations()
    model = _build_model(config, initial_weights)
    _log_inputs(config, splits, model, journal, command, initial_weights)
    _log_figure(journal, "figures/samples.png", figures.samples(*fit_data.train))
    result = fit(
        model,
        fit_data.train,
        fit_data.validation,
        training,
        config.seed,
        log=lambda epoch, metrics: journal.log_metrics(metrics, step=epoch),
        should_stop=should_stop or (lambda epoch, metrics: False),
        checkpoint_path=journal.folder / CHECKPOINT if resumable else None,
    )
    _log_figure(journal, "figures/curves.png", figures.curves(result, _title(config, splits)))
    if result.status == TrialStatus.diverged:
        reason = f"the loss was not finite in epoch {len(result.history) + 1}"
        end_run(journal, TrialStatus.diverged, reason)
        return TrialOutcome(TrialStatus.diverged, {}, reason)

    metrics = _evaluate(model, config, splits, fit_data.validation[0], result, journal)
    journal.log_metrics(metrics)
    logger.info("summary metrics: %s", metrics)
    journal.set_description(_run_description(config, splits, result, metrics, command))
    if config.tracking.log_model and result.status == TrialStatus.complete:
        from svhn_sweep.tracking.saved_model import save_model

        save_model(model, journal.folder / "model")
        journal.log_model("model")
    end_run(journal, result.status)
    return TrialOutcome(result.status, metrics)


def _build_model(config: Config, initial_weights: InitialWeights | None) -> "keras.Sequential":
    from svhn_sweep.training.model import build_model

    model = build_model(config.model, config.training.precision, config.seed)
    if initial_weights is not None:
        take_over(model, initial_weights, config.model)
    freeze(model, config.training.freeze)
    return model


def _log_inputs(
    config: Config,
    splits: Splits,
    model: "keras.Model",
    journal: Journal,
    command: str,
    initial_weights: InitialWeights | None,
) -> None:
    """Records everything that is fixed before training, and so how to reproduce the run."""
    from svhn_sweep.training.device import current_device
    from svhn_sweep.training.model import summary

    _log_text(journal, "config.yaml", OmegaConf.to_yaml(OmegaConf.structured(config)))
    _log_text(journal, "command.txt", command + "\n")
    _log_text(journal, "model_summary.txt", summary(model))
    journal.log_dataset(name=splits.path.name, digest=splits.sha256, source=str(splits.path))
    journal.set_tags({"device": current_device(), "precision": config.training.precision.value})
    variables = environment.numeric_variables()
    params: dict[str, Scalar] = {
        "seed": config.seed,
        **dict(flatten(config.model, "model.")),
        **dict(flatten(config.training, "training.")),
        **dict(flatten(config.data, "data.")),
        "data.sha256": splits.sha256,
        "parameters": model.count_params(),
        "multiply_adds": count_multiply_adds(config.model),
        **(initial_weights.params if initial_weights is not None else {}),
        **{f"environment.{name}": value for name, value in variables.items()},
    }
    journal.log_params(params)


def _evaluate(
    model: "keras.Model",
    config: Config,
    splits: Splits,
    validation_images: Images,
    result: "TrainResult",
    journal: Journal,
) -> dict[str, float]:
    """Evaluates the test split if it is loaded; logs the artifacts of validation and test.

    Returns:
        The summary metrics, which the caller logs.
    """
    from svhn_sweep.training import figures
    from svhn_sweep.training.evaluation import evaluate, predictor

    assert result.validation is not None
    evaluations = [(result.validation, validation_images)]
    if splits.x_test is not None and splits.y_test is not None:
        test = evaluate(predictor(model), splits.x_test, splits.y_test, "test")
        evaluations.append((test, splits.x_test))
    metrics: dict[str, float] = {
        "val/best_accuracy": result.history[result.best_epoch - 1]["val/accuracy"],
        "val/best_epoch": result.best_epoch,
        "val/final_accuracy": result.history[-1]["val/accuracy"],
        "val/lowest_loss": min(epoch["val/loss"] for epoch in result.history),
    }
    for evaluation, _ in evaluations:
        _log_evaluation_artifacts(journal, evaluation, _title(config, splits))
        metrics |= _metrics_of(evaluation)
    if result.status == TrialStatus.complete:  # few people look at those of pruned trials
        evaluation, images = evaluations[-1]
        title = f"Surest mistakes on {evaluation.split}: true → predicted, confidence"
        _log_figure(journal, "figures/mistakes.png", figures.mistakes(images, evaluation, title))
    return metrics


def _log_evaluation_artifacts(journal: Journal, evaluation: "Evaluation", title: str) -> None:
    from svhn_sweep.training import figures

    for path in evaluation.write(journal.folder):
        journal.log_artifact(path)
    split = evaluation.split
    scores = f"{split}: accuracy {evaluation.accuracy:.2%}, macro F1 {evaluation.macro_f1:.3f}"
    heatmap = figures.confusion_heatmap(evaluation, f"{title}\n{scores}")
    _log_figure(journal, f"confusion_matrix/{split}.png", heatmap)
    if split == "validation":
        journal.log_image("confusion_matrix/validation.png", saved_views.CONFUSION_MATRIX)


def _metrics_of(evaluation: "Evaluation") -> dict[str, float]:
    """The metrics of a split by their keys in MLflow; validation has the accuracy of each epoch."""
    is_test = evaluation.split == "test"
    prefix = "test" if is_test else "val"
    metrics = {"test/accuracy": evaluation.accuracy} if is_test else {}
    scores = {
        "macro_f1": evaluation.macro_f1,
        "calibration_error": evaluation.calibration_error,
    }
    scores |= {f"recall_{digit}": value for digit, value in enumerate(evaluation.recalls)}
    return metrics | {f"{prefix}/{name}": round(score, 4) for name, score in scores.items()}


def _title(config: Config, splits: Splits) -> str:
    """A figure's title, which names the data: synthetic digits must not pass for real ones."""
    return f"{config.model.name}, seed {config.seed}, on {splits.path.name}"


def _initial_tags(splits: Splits) -> dict[str, Scalar]:
    return {
        "trial.state": TrialStatus.running.value,
        "data.source": splits.source,
        "data.sha256": splits.sha256,
        **code_tags(),
    }


def _run_description(
    config: Config, splits: Splits, result: "TrainResult", metrics: dict[str, float], command: str
) -> str:
    """The run's description in MLflow; only the first lines are visible before it is unfolded."""
    best = (
        f"**{metrics['val/best_accuracy']:.2%}** on validation at "
        f"best (epoch {metrics['val/best_epoch']:.0f})"
    )
    last = (
        f"{metrics['val/final_accuracy']:.2%} in epoch "
        f"{len(result.history)} of {config.training.epochs}"
    )
    test = f", **{metrics['test/accuracy']:.2%}** on test" if "test/accuracy" in metrics else ""
    pruned = ", pruned" if result.status == TrialStatus.pruned else ""
    headline = f"**{config.model.name}** on {splits.path.name}: {best}, {last}{test}{pruned}."
    paths = ("confusion_matrix/validation.png", "figures/curves.png")
    images = [markdown.picture(path) for path in paths]
    return "\n\n".join([headline, *images, "Reproduce it:", markdown.code(command)])


def _log_text(journal: Journal, path: str, text: str) -> None:
    (journal.folder / path).write_text(text, encoding="utf-8")
    journal.log_artifact(path)


def _log_figure(journal: Journal, path: str, figure: "Figure") -> None:
    (journal.folder / path).parent.mkdir(exist_ok=True)
    figure.savefig(journal.folder / path)
    journal.log_artifact(path)
