import json
from pathlib import Path

import numpy as np
import pytest

from svhn_sweep.training.evaluation import Evaluation

LABELS = np.array([0, 0, 0, 1, 1, 2], dtype=np.uint8)
PREDICTED = [0, 0, 1, 1, 1, 0]


@pytest.fixture
def evaluation() -> Evaluation:
    return Evaluation("validation", np.eye(10, dtype=np.float32)[PREDICTED], LABELS)


def test_figures_by_hand(evaluation: Evaluation) -> None:
    assert evaluation.accuracy == pytest.approx(4 / 6)
    assert evaluation.loss == pytest.approx(-2 * np.log(1e-7) / 6, rel=1e-5)  # 0 counts as 1e-7
    assert evaluation.recall == pytest.approx([2 / 3, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    assert evaluation.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 10)  # digits 0 and 1; the rest are 0
    assert evaluation.confusion.shape == (10, 10)
    assert evaluation.confusion[0].tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert evaluation.confusion[2, 0] == 1  # row: true, column: predicted


def test_written_as_text_and_json(evaluation: Evaluation, tmp_path: Path) -> None:
    paths = evaluation.write(tmp_path)
    assert paths == [
        "confusion_matrix/validation.json",
        "classification_report/validation.txt",
        "classification_report/validation.json",
    ]
    assert json.loads((tmp_path / paths[0]).read_text())["counts"] == evaluation.confusion.tolist()
    assert "macro avg" in (tmp_path / paths[1]).read_text()
    assert json.loads((tmp_path / paths[2]).read_text())["1"]["recall"] == 1
