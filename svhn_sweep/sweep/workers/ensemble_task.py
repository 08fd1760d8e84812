"""What a worker does for an ensemble: selects it, judges it, and saves its model."""

import numpy as np

from svhn_sweep import data
from svhn_sweep.data.splits import Images, Labels
from svhn_sweep.sweep.workers.evaluation_requests import (
    EnsembleRequest,
    EnsembleResult,
    ensemble_folder,
)
from svhn_sweep.sweep.workers.tasks import compose, write_reports


def select_ensemble(request: EnsembleRequest) -> EnsembleResult:
    """Selects and judges an ensemble.

    An ensemble of at least two different models is saved below the request's folder, in
    `ensemble_folder(members)`.
    """
    from svhn_sweep.tracking.saved_model import load_model, save_model
    from svhn_sweep.training.ensemble import build_ensemble, split_halves
    from svhn_sweep.training.evaluation import evaluate, predictor

    config = compose(request.overrides, request.config_dirs)
    splits = data.load(config.data, test=False)
    images, labels = data.split_validation(splits, config.training.validation_split).validation
    selecting, judging = split_halves(labels, request.seed)
    members = _members(request, images[selecting], labels[selecting])
    models = {trial: load_model(request.candidates[trial] / "model") for trial in members}
    ensemble = build_ensemble(
        {f"trial_{trial}": model for trial, model in models.items()},
        {f"trial_{trial}": count for trial, count in members.items()},
    )
    best, run = next(iter(request.candidates.items()))
    evaluation, evaluation_of_best = (
        evaluate(predictor(model), images[judging], labels[judging], "validation")
        for model in (ensemble, load_model(run / "model"))
    )
    if len(members) > 1:
        folder = request.folder / ensemble_folder(members)
        title = f"ensemble on the half of validation that judges it,\n{splits.path.name}"
        write_reports(evaluation, folder, title)
        save_model(ensemble, folder / "model")
    right = evaluation.predictions == evaluation.labels
    best_right = evaluation_of_best.predictions == evaluation.labels
    return EnsembleResult(
        best=best,
        members=members,
        parameters=ensemble.count_params(),
        images=len(right),
        accuracy=evaluation.accuracy,
        best_accuracy=evaluation_of_best.accuracy,
        ensemble_only=int(np.sum(right & ~best_right)),
        best_only=int(np.sum(best_right & ~right)),
        macro_f1=evaluation.macro_f1,
        calibration_error=evaluation.calibration_error,
    )


def _members(request: EnsembleRequest, images: Images, labels: Labels) -> dict[int, int]:
    """How often the model of each selected trial counts; these images select."""
    from svhn_sweep.tracking.saved_model import load_model
    from svhn_sweep.training.ensemble import select_members
    from svhn_sweep.training.evaluation import predictor

    runs = request.candidates.values()
    # One model at a time is in memory.
    probabilities = np.stack([predictor(load_model(run / "model"))(images) for run in runs])
    counts = select_members(probabilities, labels, request.limit)
    return {trial: int(n) for trial, n in zip(request.candidates, counts, strict=True) if n > 0}
