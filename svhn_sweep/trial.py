"""The story of one trial: a model is fitted on the digits, the fit is judged, and everything is
written down.
"""

import logging
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from svhn_sweep import data
from svhn_sweep.config.schema import Config, flatten, source_of
from svhn_sweep.data.splits import Splits
from svhn_sweep.errors import OutOfMemoryError, Terminated
from svhn_sweep.native_output import redirect_native_output
from svhn_sweep.provenance import code
from svhn_sweep.tracking import markdown, saved_views
from svhn_sweep.tracking.journal import Journal, Scalar
from svhn_sweep.trial_status import TrialStatus

if TYPE_CHECKING:  # these import TensorFlow, which takes 5 s: bad data is reported before
    import keras
    from matplotlib.figure import Figure

    from svhn_sweep.training.fit import ShouldStop, TrainResult

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.npz"
# what CUDA's libraries, who take memory beside TensorFlow's, say when there is none left for them
OOM_MESSAGES = (
    "alloc failed",
    "dnn library initialization failed",
    "cublas status not initialized",
    "no algorithm worked",
)


@dataclass(frozen=True)
class RunInfo:
    """What MLflow is told about a trial's run before anything is trained.

    Attributes:
        name: of the run.
        experiment: that it belongs to.
        store: the address of the MLflow store, without a password.
        tags: role (baseline, trial or confirmation); in a sweep also study and trial.number.
        parent: the folder of the run that it is shown in, relative to its own; empty if there is
            none.
    """

    name: str
    experiment: str
    store: str
    tags: dict[str, Scalar]
    parent: str = ""

    def start(self, journal: Journal, tags: Mapping[str, Scalar] | None = None) -> None:
        """Begin the run's journal, or go on with it; `tags`: further ones, of which the run's
        own win.
        """
        journal.start(
            name=self.name,
            experiment=self.experiment,
            store=self.store,
            tags={**(tags or {}), **self.tags},
            parent=self.parent,
        )


@dataclass(frozen=True)
class Outcome:
    """A finished trial.

    Attributes:
        status: complete, pruned or diverged.
        finals: the metrics that belong to the whole run, as MLflow holds them; accuracies in 0..1.
        reason: why it diverged.
    """

    status: TrialStatus
    finals: dict[str, float]
    reason: str = ""


def run_trial(
    config: Config,
    splits: Splits,
    folder: Path,
    command: str,
    run_info: RunInfo,
    should_stop: "ShouldStop | None" = None,
) -> Outcome:
    """Train and judge the config's model, with everything about it in `folder`.

    Args:
        config: checked, with everything resolved that may be left open: data source, threads.
        splits: the digits of that source; the model is judged on test if they have a test split.
        folder: the trial's own.
        command: reproduces the trial.
        run_info: what MLflow is told about it.
        should_stop: may end the fit early, as pruned. With it the trial is one of a sweep: what an
            interrupted one left in the folder is continued.

    Raises:
        DataError: too few digits to split; nothing is recorded then.
        OutOfMemoryError: the device has too little memory for this and what else runs on it. A
            sweep's trial can be continued where there is more.
    """
    parts = data.split_validation(splits, config.training.validation_split)
    with Journal(folder) as journal:
        run_info.start(journal, _tags(splits))
        with (
            _recorded(journal, goes_on=should_stop is not None),
            redirect_native_output(folder / "trial.log"),
        ):
            return _train_and_judge(config, splits, parts, journal, command, should_stop)


def experiment_name(config: Config) -> str:
    """The MLflow experiment: synthetic digits never share one with real ones."""
    suffix = "-synthetic" if source_of(config.data) == "synthetic" else ""
    return config.tracking.experiment + suffix


def _train_and_judge(
    config: Config,
    splits: Splits,
    parts: data.Parts,
    journal: Journal,
    command: str,
    should_stop: "ShouldStop | None",
) -> Outcome:
    from svhn_sweep.training import figures
    from svhn_sweep.training.device import use_deterministic_operations, use_threads
    from svhn_sweep.training.fit import fit
    from svhn_sweep.training.model import build_model

    training = config.training
    use_threads(training.threads)
    use_deterministic_operations()
    model = build_model(config.model, training.augmentation, training.precision, config.seed)
    _describe(config, splits, model, journal, command)
    _save(journal, "figures/samples.png", figures.samples(*parts.train))

    result = fit(
        model,
        parts.train,
        parts.validation,
        training,
        config.seed,
        log=lambda epoch, metrics: journal.metrics(metrics, step=epoch),
        should_stop=should_stop or (lambda epoch, metrics: False),
        checkpoint=journal.folder / CHECKPOINT if should_stop else None,
    )
    _save(journal, "figures/curves.png", figures.curves(result, _title(config, splits)))
    if result.status == TrialStatus.diverged:
        reason = f"the loss was not finite in epoch {len(result.history) + 1}"
        _end(journal, TrialStatus.diverged, reason)
        return Outcome(TrialStatus.diverged, {}, reason)

    finals = _judge(model, config, splits, parts.validation[0], result, journal)
    journal.metrics(finals)
    logger.info("finals: %s", finals)
    journal.set_note(_description(config, splits, result, finals, command))
    if config.tracking.log_model and result.status == TrialStatus.complete:
        from svhn_sweep.tracking.saved_model import save_model

        save_model(model, journal.folder / "model")
        journal.model("model")
    _end(journal, result.status)
    return Outcome(result.status, finals)


def _describe(
    config: Config, splits: Splits, model: "keras.Model", journal: Journal, command: str
) -> None:
    """What is known before training: how to reproduce it, on what, with which parameters."""
    from svhn_sweep.training.device import current_device
    from svhn_sweep.training.model import summary

    _write(journal, "config.yaml", OmegaConf.to_yaml(OmegaConf.structured(config)))
    _write(journal, "command.txt", command + "\n")
    _write(journal, "model_summary.txt", summary(model))
    journal.dataset(name=splits.path.name, digest=splits.sha256, source=str(splits.path))
    journal.tags({"device": current_device(), "precision": config.training.precision.value})
    sections = {"model": config.model, "training": config.training, "data": config.data}
    params = {
        key: value
        for name, section in sections.items()
        for key, value in flatten(section, f"{name}.")
    }
    facts = {"data.sha256": splits.sha256, "parameters": model.count_params()}
    journal.params({"seed": config.seed} | params | facts)


def _judge(
    model: "keras.Model",
    config: Config,
    splits: Splits,
    images: data.Images,
    result: "TrainResult",
    journal: Journal,
) -> dict[str, float]:
    """Tell how the model does on validation, whose images these are, and, if it was loaded, on
    test.

    Returns the finals.
    """
    from svhn_sweep.training import figures
    from svhn_sweep.training.evaluation import evaluate, predictor

    assert result.validation is not None
    evaluations = [result.validation]
    if splits.x_test is not None and splits.y_test is not None:
        images = splits.x_test
        evaluations.append(evaluate(predictor(model), images, splits.y_test, "test"))
    finals: dict[str, float] = {
        "val/best_accuracy": result.history[result.best_epoch - 1]["val/accuracy"],
        "val/best_epoch": result.best_epoch,
        "val/final_accuracy": result.history[-1]["val/accuracy"],
        "val/lowest_loss": min(metrics["val/loss"] for metrics in result.history),
    }
    for evaluation in evaluations:
        split = evaluation.split
        scores = f"{split}: accuracy {evaluation.accuracy:.2%}, macro F1 {evaluation.macro_f1:.3f}"
        title = f"{_title(config, splits)}\n{scores}"
        for path in evaluation.write(journal.folder):
            journal.artifact(path)
        _save(
            journal, f"confusion_matrix/{split}.png", figures.confusion_heatmap(evaluation, title)
        )
        if split == "validation":
            journal.image("confusion_matrix/validation.png", saved_views.MATRIX)
            finals["val/macro_f1"] = evaluation.macro_f1
        else:
            finals |= {"test/accuracy": evaluation.accuracy, "test/macro_f1": evaluation.macro_f1}
            finals |= {
                f"test/recall_{digit}": recall for digit, recall in enumerate(evaluation.recall)
            }
    _save(
        journal,
        "figures/mistakes.png",
        figures.mistakes(
            images,
            evaluation,
            f"Surest mistakes on {split}: true \N{RIGHTWARDS ARROW} predicted, confidence",
        ),
    )
    return finals


def _title(config: Config, splits: Splits) -> str:
    """What a figure shows, so that one of drawn digits never passes for one of real ones."""
    return f"{config.model.name}, seed {config.seed}, on {splits.path.name}"


def _tags(splits: Splits) -> dict[str, Scalar]:
    tags: dict[str, Scalar] = {
        "trial.state": TrialStatus.running.value,
        "data.source": splits.source,
        "data.sha256": splits.sha256,
    }
    return tags | code()


def _description(
    config: Config, splits: Splits, result: "TrainResult", finals: dict[str, float], command: str
) -> str:
    """Of the run in MLflow; its first lines are what is seen without unfolding it."""
    best = (
        f"**{finals['val/best_accuracy']:.2%}** on validation at "
        f"best (epoch {finals['val/best_epoch']:.0f})"
    )
    last = (
        f"{finals['val/final_accuracy']:.2%} in epoch "
        f"{len(result.history)} of {config.training.epochs}"
    )
    test = f", **{finals['test/accuracy']:.2%}** on test" if "test/accuracy" in finals else ""
    end = ", pruned" if result.status == TrialStatus.pruned else ""
    pictures = [
        markdown.picture(path) for path in ("confusion_matrix/validation.png", "figures/curves.png")
    ]
    found = f"**{config.model.name}** on {splits.path.name}: {best}, {last}{test}{end}."
    return "\n\n".join([found, *pictures, "Reproduce it:", markdown.code(command)])


@contextmanager
def _recorded(journal: Journal, *, goes_on: bool) -> Iterator[None]:
    """Whatever ends the trial early ends its run as well, with the reason; `goes_on`: it may be
    continued elsewhere.
    """
    try:
        yield
    except (KeyboardInterrupt, Terminated) as stop:
        if journal.ended:  # the signal came too late
            raise
        reason = "Ctrl-C" if isinstance(stop, KeyboardInterrupt) else "SIGTERM"
        _end(journal, TrialStatus.interrupted, reason)
        raise
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        memory = _is_out_of_memory(error, shared=goes_on)
        interrupted = goes_on and (
            memory or isinstance(error, OSError)
        )  # a full disk is the machine's doing
        if not interrupted:
            _write(journal, "traceback.txt", traceback.format_exc())
        _end(journal, TrialStatus.interrupted if interrupted else TrialStatus.failed, reason)
        if memory:
            advice = "a smaller training.batch_size or fewer filters need less"
            raise OutOfMemoryError(
                f"out of memory ({reason.splitlines()[0]}); {advice}."
            ) from error
        raise


def _is_out_of_memory(error: BaseException, *, shared: bool) -> bool:
    """Python's error, or TensorFlow's, or CUDA's in its words.

    Where others share the device, what may as well be a broken installation counts too: alone it
    fails again.
    """
    words = str(error).lower().replace("_", " ")
    named = type(error).__name__ == "ResourceExhaustedError"  # TensorFlow may not be loaded yet
    known = isinstance(error, MemoryError) or named or "out of memory" in words
    return known or (shared and any(sign in words for sign in OOM_MESSAGES))


def _end(journal: Journal, status: TrialStatus, reason: str = "") -> None:
    if (journal.folder / "trial.log").exists():
        journal.artifact("trial.log")
    journal.end(status, reason)
    if status != TrialStatus.interrupted:
        (journal.folder / CHECKPOINT).unlink(missing_ok=True)


def _write(journal: Journal, path: str, text: str) -> None:
    (journal.folder / path).write_text(text, encoding="utf-8")
    journal.artifact(path)


def _save(journal: Journal, path: str, figure: "Figure") -> None:
    (journal.folder / path).parent.mkdir(exist_ok=True)
    figure.savefig(journal.folder / path)
    journal.artifact(path)
