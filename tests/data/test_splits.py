from pathlib import Path

import numpy as np
import pytest

from svhn_sweep.data import Splits, split_validation
from svhn_sweep.errors import DataError


def splits(count: int) -> Splits:
    images = np.arange(count, dtype=np.float32).reshape(-1, 1, 1, 1)
    return Splits(images, np.zeros(count, np.uint8), None, None, "svhn", Path("digits.h5"), "")


@pytest.mark.parametrize(
    ("count", "fraction", "train"), [(42000, 0.2, 33600), (18888, 0.2, 15110), (10, 0.25, 7)]
)
def test_validation_is_the_end_of_the_arrays_as_in_keras(
    count: int, fraction: float, train: int
) -> None:
    fit_data = split_validation(splits(count), fraction)
    assert [len(array) for array in fit_data.train] == [train, train]
    assert [len(array) for array in fit_data.validation] == [count - train, count - train]
    images = np.concatenate([fit_data.train[0], fit_data.validation[0]])
    assert (images == splits(count).x_train).all()


@pytest.mark.parametrize(("count", "fraction"), [(1, 0.2), (300, 0.999)])
def test_an_empty_part_is_an_error(count: int, fraction: float) -> None:
    with pytest.raises(
        DataError, match=rf"validation_split={fraction} cuts its {count} digits into 0 and {count}"
    ):
        split_validation(splits(count), fraction)
