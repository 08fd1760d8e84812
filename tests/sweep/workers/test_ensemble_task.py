"""What a worker selects, judges and saves of models that were saved by trials."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import mlflow.pyfunc
import numpy as np
import pytest

from svhn_sweep.config.schema import ModelConfig, Precision
from svhn_sweep.sweep.workers.evaluation_requests import (
    EnsembleRequest,
    EnsembleResult,
    ensemble_folder,
)
from svhn_sweep.sweep.workers.protocol import TrialEnded
from svhn_sweep.sweep.workers.worker_main import answer
from svhn_sweep.tracking.saved_model import load_model, save_model
from svhn_sweep.training.ensemble import split_halves
from svhn_sweep.training.model import build_model

VALIDATION = slice(240, 300)  # of the file's 300 digits
PLAIN_KERAS = """
import sys
import keras
import numpy as np
model = keras.models.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), verbose=0))
assert not any(name.startswith("svhn_sweep") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders of runs with models that nobody trained, by the number of the trial."""
    root = tmp_path_factory.mktemp("runs")
    config = ModelConfig(
        name="model1",
        filters={"conv1": 2, "conv2": 2},
        batch_norm=False,
        dense_units=4,
        dropout=0.0,
        leaky_relu_slope=0.1,
    )
    runs = {number: root / f"trial-{number:04d}" for number in (7, 0, 12)}
    for number, run in runs.items():
        save_model(build_model(config, Precision.float32, seed=number), run / "model")
    return runs


def request(h5: Path, candidates: dict[int, Path], folder: Path) -> EnsembleRequest:
    overrides = ("model=model1", "data=svhn", f"data.path={h5}")
    return EnsembleRequest(overrides, (), candidates, limit=3, seed=42, folder=folder)


def selected(request: EnsembleRequest) -> EnsembleResult:
    result = answer(request)
    assert isinstance(result, EnsembleResult), result
    return result


def test_the_saved_model_is_the_mean_of_its_members_in_plain_keras_and_mlflow(
    saved: dict[int, Path], small_h5: Path, tmp_path: Path
) -> None:
    result = selected(request(small_h5, saved, tmp_path))
    assert len(result.members) > 1
    assert result.members.keys() <= saved.keys()
    folder = tmp_path / ensemble_folder(result.members)
    with h5py.File(small_h5) as file:
        images = np.asarray(file["X_train"][:20], np.float32).reshape(-1, 32, 32, 1)
    mean = sum(
        count * load_model(saved[number] / "model").predict(images, verbose=0)
        for number, count in result.members.items()
    ) / sum(result.members.values())
    served = mlflow.pyfunc.load_model(str(folder / "model"))
    assert served.metadata.signature.inputs.inputs[0].shape == (-1, 32, 32, 1)
    np.testing.assert_allclose(served.predict(images), mean, rtol=1e-5)

    np.save(tmp_path / "images.npy", images)
    arguments = [folder / "model" / "data" / "model.keras", "images.npy", "predictions.npy"]
    command = [sys.executable, "-c", PLAIN_KERAS, *map(str, arguments)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "predictions.npy"), mean, rtol=1e-5)


def test_scores_are_those_of_the_judging_half(
    saved: dict[int, Path], small_h5: Path, tmp_path: Path
) -> None:
    result = selected(request(small_h5, saved, tmp_path))
    with h5py.File(small_h5) as file:
        images = np.asarray(file["X_train"][VALIDATION], np.float32).reshape(-1, 32, 32, 1)
        labels = np.asarray(file["y_train"][VALIDATION], np.uint8)
    _, judging = split_halves(labels, 42)
    right = {
        path: load_model(path / "model").predict(images[judging], verbose=0).argmax(axis=1)
        == labels[judging]
        for path in (tmp_path / ensemble_folder(result.members), saved[7])
    }
    ensemble, best = right.values()
    assert (result.best, result.images) == (7, len(judging))
    assert result.accuracy == pytest.approx(ensemble.mean())
    assert result.best_accuracy == pytest.approx(best.mean())
    assert result.ensemble_only == np.sum(ensemble & ~best)
    assert result.best_only == np.sum(best & ~ensemble)
    assert result.parameters == len(result.members) * load_model(saved[7] / "model").count_params()


def test_the_half_that_judges_does_not_choose(
    saved: dict[int, Path], small_h5: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed.h5"
    shutil.copy(small_h5, changed)
    with h5py.File(changed, "r+") as file:
        _, judging = split_halves(np.asarray(file["y_train"][VALIDATION], np.uint8), 42)
        for index in VALIDATION.start + judging:
            file["X_train"][index] = 255 - file["X_train"][index]
    result = selected(request(small_h5, saved, tmp_path))
    other = selected(request(changed, saved, tmp_path))
    assert other.members == result.members
    assert other != result


def test_one_models_ensemble_is_not_saved(
    saved: dict[int, Path], small_h5: Path, tmp_path: Path
) -> None:
    twins = {3: saved[7], 5: saved[7]}
    result = selected(request(small_h5, twins, tmp_path / "ensemble"))
    assert result.members == {3: 1}
    assert result.accuracy == result.best_accuracy
    assert not (tmp_path / "ensemble").exists()


def test_an_error_is_returned_with_its_reason(
    saved: dict[int, Path], small_h5: Path, tmp_path: Path
) -> None:
    lost = replace(request(small_h5, saved, tmp_path), candidates={1: tmp_path / "nowhere"})
    ended = answer(lost)
    assert isinstance(ended, TrialEnded)
    assert ended.reason == "MlflowException: No such artifact: 'model'"
