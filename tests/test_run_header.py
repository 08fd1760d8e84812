from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from svhn_sweep.config.data_sources import SvhnConfig
from svhn_sweep.config.schema import Config
from svhn_sweep.data import Splits
from svhn_sweep.run_header import print_copies, print_header


@pytest.mark.parametrize(
    ("labels", "warned"),
    [(np.arange(200) % 10, False), (np.arange(200) // 20, True)],
    ids=["mixed", "sorted"],
)
def test_a_validation_unlike_the_digits_trained_on_is_warned_of_before_training(
    composed: Callable[..., Config],
    capsys: pytest.CaptureFixture[str],
    labels: np.ndarray,
    warned: bool,
) -> None:
    images = np.zeros((200, 32, 32, 1), np.float32)
    splits = Splits(images, labels.astype(np.uint8), None, None, "svhn", Path("digits.h5"), "")
    config = replace(composed("model=model1"), data=SvhnConfig("digits.h5"))
    print_header(config, splits, "svhn")
    *before, last = capsys.readouterr().out.splitlines()
    assert last.startswith("model1: 200 digits to train and validate; starting TensorFlow")
    text = " ".join(line.strip("│ ") for line in before)
    assert ("Validation, the end of X_train, has no 0, 1, 2, 3, 4, 5, 6, 7 and" in text) == warned


def test_copies_come_with_the_command_that_audits_the_same_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_copies("", Path("digits.h5"))
    print_copies("1 of 60", Path("/my data/a.h5"))
    assert capsys.readouterr().out == (
        "COPIES: 1 of 60; see python -m svhn_sweep audit '/my data/a.h5'\n"
    )
