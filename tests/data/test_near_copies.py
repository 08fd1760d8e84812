"""Near copies are found among real-looking digits, and pictures that are alike are not."""

from collections.abc import Callable

import numpy as np
import pytest

from svhn_sweep.data import Images
from svhn_sweep.data.near_copies import find_near_copies
from svhn_sweep.data.synthetic import generate

COUNT = 300


@pytest.fixture(scope="module")
def images() -> Images:
    images, _ = generate(COUNT, seed=(1, COUNT))
    return images.astype(np.float32).reshape(-1, 32, 32, 1)


def shift(down: int, right: int, mode: str) -> Callable[[Images], Images]:
    def shifted(images: Images) -> Images:
        if mode == "wrap":
            return np.roll(images, (down, right), axis=(1, 2))
        padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
        return padded[:, 2 - down : 34 - down, 2 - right : 34 - right]

    return shifted


def rounded(images: Images) -> Images:
    return np.clip(np.rint(images), 0, 255).astype(np.float32)


SHIFTS = [(-2, -2), (-2, 1), (0, -1), (1, 0), (2, 2)]


@pytest.mark.parametrize("mode", ["edge", "wrap"])
@pytest.mark.parametrize(("down", "right"), SHIFTS)
def test_shifted_copies_are_found_with_their_shift(
    images: Images, down: int, right: int, mode: str
) -> None:
    copies = shift(down, right, mode)(images)
    near = find_near_copies(np.concatenate([images, copies]))
    found = near.second == near.first + COUNT
    assert found.sum() >= 0.99 * COUNT
    assert (near.shifts[found] == (down, right)).all(axis=1).mean() > 0.99
    assert (~found).sum() == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images,
        lambda images: images * 1.2,
        lambda images: images * 0.8,
        lambda images: images + 20,
        lambda images: (images - 128) * 0.6 + 128,
        lambda images: shift(1, -1, "edge")(images * 1.2),
    ],
    ids=["equal", "brighter", "darker", "lighter", "flatter", "brighter and shifted"],
)
def test_copies_of_another_brightness_or_contrast_are_found(
    images: Images, change: Callable[[Images], Images]
) -> None:
    near = find_near_copies(np.concatenate([images, rounded(change(images))]))
    found = near.second == near.first + COUNT
    assert found.sum() >= 0.96 * COUNT  # a brighter copy can be white nearly everywhere
    assert (~found).sum() == 0
    assert (np.diff(near.similarities) <= 0).all()


@pytest.mark.parametrize(
    "others",
    [
        lambda images: images[:0],
        lambda images: 255 - images,
        lambda images: images[:, :, ::-1],
        lambda images: np.roll(images, 5, axis=2),
        lambda images: np.full((20, 32, 32, 1), 128, np.float32),  # plain: only equal ones count
    ],
    ids=["none", "negative", "mirrored", "shifted by five", "plain"],
)
def test_other_pictures_are_no_near_copies(
    images: Images, others: Callable[[Images], Images]
) -> None:
    near = find_near_copies(np.concatenate([images, others(images).astype(np.float32)]))
    assert len(near.first) <= 0.01 * COUNT  # a mirrored 1, or one with a plain background


def test_plain_images_alone_have_no_near_copies() -> None:
    near = find_near_copies(np.zeros((5, 32, 32, 1), np.float32))
    assert near.shifts.shape == (0, 2)


def test_clipped_copies_are_compared_where_they_are_not_clipped(images: Images) -> None:
    bright = rounded(images * 0.3 + 170)
    near = find_near_copies(np.concatenate([bright, rounded(bright * 1.2)]))
    found = near.second == near.first + COUNT
    clipped = (bright * 1.2 > 255).mean(axis=(1, 2, 3))
    assert np.isin(np.flatnonzero(clipped < 0.5), near.first[found]).mean() > 0.97
