"""Records an ensemble as an MLflow run of its own, and registers it if it is better."""

import os
import shutil

from svhn_sweep.config.data_sources import source_name
from svhn_sweep.provenance import code_tags
from svhn_sweep.sweep.selection.ensemble import Ensemble
from svhn_sweep.sweep.selection.race import VerdictOutcome
from svhn_sweep.tracking import journal, markdown, tracking_uri
from svhn_sweep.tracking.journal import Journal
from svhn_sweep.trial import experiment_name
from svhn_sweep.trial_status import TrialStatus

ENSEMBLE = "ensemble"  # its name among the models that are evaluated on test
REPORTS = ("confusion_matrix", "classification_report")  # folders of an evaluation


def record_ensemble(ensemble: Ensemble, accuracy: float, calibration_error: float) -> None:
    """Writes the ensemble's run, unless it is written already.

    The best trial, with which it is compared, may be another one since; then the scores are
    replaced.

    Args:
        ensemble: An ensemble with a model.
        accuracy: Its accuracy on test, 0..1.
        calibration_error: Its expected calibration error on test, 0..1.
    """
    folder = ensemble.folder
    scores = {"test/accuracy": accuracy, "test/calibration_error": calibration_error}
    metrics = ensemble_metrics(ensemble) | scores
    state = (journal.end_tags(folder) or {}).get("trial.state")
    recorded = journal.history(folder).get(0, {})
    if state == TrialStatus.complete.value and metrics.items() <= recorded.items():
        return
    result = ensemble.result
    config = ensemble.study.plan.config
    _copy_test_reports(ensemble)
    with Journal(folder) as run:
        _start(run, ensemble)
        run.log_params(
            {
                "seed": config.seed,
                "model.name": config.model.name,
                "members": ", ".join(map(str, result.members)),
                "counts": ", ".join(map(str, result.members.values())),
                "parameters": result.parameters,
                "data.sha256": ensemble.study.plan.data_sha256,
            }
        )
        run.log_metrics(metrics, replace=True)
        for path in sorted(path for name in REPORTS for path in (folder / name).glob("*")):
            run.log_artifact(str(path.relative_to(folder)))
        run.log_model("model")
        run.set_description(_describe_run(ensemble, accuracy))
        run.end(TrialStatus.complete)


def register_ensemble(ensemble: Ensemble, accuracy: float) -> str:
    """Registers the ensemble's model if it is better than the best trial.

    Args:
        ensemble: An ensemble whose run is recorded.
        accuracy: Its accuracy on test, 0..1.

    Returns:
        What was done, as a sentence.
    """
    if ensemble.outcome is not VerdictOutcome.better:
        return "not registered"
    from svhn_sweep.tracking.registry import (  # imports mlflow
        ALIAS,
        ENSEMBLE_MODEL,
        ENSEMBLE_SYNTHETIC,
        predict_command,
        register,
    )

    plan = ensemble.study.plan
    is_synthetic = source_name(plan.config.data) == "synthetic"
    name = ENSEMBLE_SYNTHETIC if is_synthetic else ENSEMBLE_MODEL
    tags = {
        "data.sha256": plan.data_sha256,
        "study": plan.name,
        "members": ensemble.members,
        "parameters": str(ensemble.result.parameters),
        "test": str(accuracy),
    }
    description = f"{plan.config.model.name}: the mean of {ensemble.members} of {plan.name}. " + (
        f"Accuracy {ensemble.result.accuracy:.2%} on the half of validation that did not select "
        f"it, {accuracy:.2%} on test."
    )
    try:
        registered = register(name, ensemble.folder, ensemble.result.accuracy, tags, description)
    except Exception as error:  # noqa: BLE001  # MLflow is unreachable; the sweep's result stands
        reason = tracking_uri.reason(error)
        return f"not registered as {name}: {reason}; the same command tries again"
    if registered.rival:
        return registered.sentence()
    use = predict_command(f"models:/{name}@{ALIAS}")
    return f"{registered.sentence()}; to use the ensemble: `{use}`"


def ensemble_metrics(ensemble: Ensemble) -> dict[str, float]:
    """Returns the scores on the judging half by MLflow's keys; accuracies in 0..1."""
    interval = ensemble.interval
    return {
        "ensemble/accuracy": ensemble.result.accuracy,
        "ensemble/macro_f1": ensemble.result.macro_f1,
        "ensemble/calibration_error": ensemble.result.calibration_error,
        "ensemble/difference": interval.difference,
        "ensemble/low": interval.low,
        "ensemble/high": interval.high,
        "ensemble/parameters": ensemble.result.parameters,
    }


def _start(run: Journal, ensemble: Ensemble) -> None:
    plan = ensemble.study.plan
    run.start(
        name=f"{plan.config.model.name} · ensemble",
        experiment=experiment_name(plan.config),
        store=tracking_uri.address(),
        tags={
            **plan.config.tracking.tags,
            "role": "ensemble",
            "study": plan.name,
            "data.source": source_name(plan.config.data),
            "data.sha256": plan.data_sha256,
            **code_tags(),
        },
        parent=os.path.relpath(plan.parent_run_dir, ensemble.folder),
    )


def _copy_test_reports(ensemble: Ensemble) -> None:
    """Copies matrix and report from the study's folder `test`; the user may have removed it."""
    source = ensemble.study.plan.parent_run_dir / "test" / ENSEMBLE
    if source.exists():
        shutil.copytree(source, ensemble.folder, dirs_exist_ok=True)


def _describe_run(ensemble: Ensemble, accuracy: float) -> str:
    """The run's description: its accuracies, a table of its members, the confusion matrix."""
    result = ensemble.result
    trials = {trial.number: trial for trial in ensemble.study.trials()}
    rows = [
        f"| {number} | {count} | {trials[number].user_attrs.get('best_accuracy', 0):.2%} "
        f"| {trials[number].user_attrs.get('parameters', 0):,} |"
        for number, count in result.members.items()
    ]
    return "\n".join(
        [
            f"**{result.accuracy:.2%}** on the half of validation that did not select it, "
            f"**{accuracy:.2%}** on test; {result.parameters:,} parameters.",
            "",
            "| trial | counts | val/best_accuracy | parameters |",
            "| ---: | ---: | ---: | ---: |",
            *rows,
            "",
            markdown.picture("confusion_matrix/validation.png"),
        ]
    )
