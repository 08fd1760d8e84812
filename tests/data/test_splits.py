from pathlib import Path

import numpy as np
import pytest

from svhn_sweep.data import FitData, Splits, describe_imbalance, split_validation
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


def fit_data(trained: list[int], validated: list[int]) -> FitData:
    """Parts with so many of each digit, from 0 on."""
    train, validation = (
        np.repeat(np.arange(len(counts), dtype=np.uint8), counts) for counts in (trained, validated)
    )
    return FitData((np.empty(0, np.float32), train), (np.empty(0, np.float32), validation))


@pytest.mark.parametrize(
    ("trained", "validated", "imbalance"),
    [
        ([80] * 10, [20] * 10, ""),
        ([160, 320] * 5, [40, 80] * 5, ""),  # unbalanced alike
        ([16] * 10, [1, 2, 3, 4, 4, 5, 6, 7, 4, 4], ""),  # by chance
        ([80] * 10, [0, *[22] * 9], "no 0"),
        ([80] * 9, [20] * 9, "no 9"),
        (
            [100] * 8,
            [0] * 8 + [100, 100],  # a file sorted by label
            "no 0, 1, 2, 3, 4, 5, 6, 7 and too many or too few of 8, 9",
        ),
        ([800] * 10, [90, *[200] * 8, 310], "too many or too few of 0"),
    ],
)
def test_what_validation_lacks_or_has_out_of_proportion_is_described(
    trained: list[int], validated: list[int], imbalance: str
) -> None:
    assert describe_imbalance(fit_data(trained, validated)) == imbalance
