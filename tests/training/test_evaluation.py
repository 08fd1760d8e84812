import json
from pathlib import Path

import keras
import numpy as np
import pytest

from svhn_sweep.training.evaluation import Evaluation, predictor

LABELS = np.array([0, 0, 0, 1, 1, 2], dtype=np.uint8)
PREDICTIONS = [0, 0, 1, 1, 1, 0]


@pytest.fixture
def evaluation() -> Evaluation:
    return Evaluation("validation", np.eye(10, dtype=np.float32)[PREDICTIONS], LABELS)


def test_metrics_equal_those_computed_by_hand(evaluation: Evaluation) -> None:
    assert evaluation.accuracy == pytest.approx(4 / 6)
    assert evaluation.loss == pytest.approx(-2 * np.log(1e-7) / 6, rel=1e-5)  # 0 counts as 1e-7
    assert evaluation.recalls == pytest.approx([2 / 3, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    assert evaluation.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 10)  # digits 0, 1; others: 0
    assert evaluation.confusion.shape == (10, 10)
    assert evaluation.confusion[0].tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert evaluation.confusion[2, 0] == 1  # row: true, column: predicted


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([(1.0, True), (1.0, True)], 0.0),
        ([(1.0, True), (1.0, False)], 0.5),
        ([(0.98, True), (0.95, False)], 0.465),  # one bin: |1/2 - 0.965|
        ([(0.9, True), (0.5, False), (0.5, True), (0.5, False)], 0.15),  # (0.1 + 3 * |1/3-1/2|) / 4
    ],
)
def test_the_calibration_error_is_the_mean_gap_of_the_bins(
    rows: list[tuple[float, bool]], error: float
) -> None:
    probabilities = np.zeros((len(rows), 10), np.float32)
    for row, (confidence, right) in zip(probabilities, rows, strict=True):
        row[:] = (1 - confidence) / 9
        row[0 if right else 1] = confidence
    labels = np.zeros(len(rows), np.uint8)
    evaluation = Evaluation("test", probabilities, labels)
    assert evaluation.calibration_error == pytest.approx(error, abs=1e-6)


def test_it_is_written_as_text_and_json(evaluation: Evaluation, tmp_path: Path) -> None:
    paths = evaluation.write(tmp_path)
    assert paths == [
        "confusion_matrix/validation.json",
        "classification_report/validation.txt",
        "classification_report/validation.json",
    ]
    assert json.loads((tmp_path / paths[0]).read_text())["counts"] == evaluation.confusion.tolist()
    assert "macro avg" in (tmp_path / paths[1]).read_text()
    assert json.loads((tmp_path / paths[2]).read_text())["1"]["recall"] == 1


def test_a_predictor_traces_its_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of images, and although the last batch has fewer."""
    model = keras.Sequential(
        [keras.Input((32, 32, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    traces = []
    call = keras.Sequential.call

    def count(self: keras.Sequential, *arguments: object, **options: object) -> object:
        traces.append(arguments)
        return call(self, *arguments, **options)

    monkeypatch.setattr(keras.Sequential, "call", count)
    images = np.random.default_rng(0).uniform(0, 255, (200, 32, 32, 1)).astype(np.float32)
    predict = predictor(model)
    assert predict(images).shape == (200, 10)
    model.set_weights([weights + 1 for weights in model.get_weights()])
    assert np.allclose(predict(images[:50]), model.predict_on_batch(images[:50]), rtol=1e-5)
    assert len(traces) == 2  # predict_on_batch has a trace of its own
