from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from svhn_sweep.config.schema import AugmentationConfig
from svhn_sweep.training.augmentation import random_transforms, transform

N = 500
CENTER = 15.5


UNCHANGED = AugmentationConfig(enabled=True, shift=0, rotation=0, zoom=0)


def drawn(seed: int = 1, epoch: int = 0, **limits: float) -> np.ndarray:
    """Returns the transforms of N images, float32 [N, 8]; limits that are not given are 0."""
    config = replace(UNCHANGED, **limits)  # type: ignore[arg-type]
    return np.asarray(random_transforms(config, N, seed, tf.constant(epoch, tf.int64)))


def moves(transforms: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what each transform does: pixels of shift at the centre, turns, and scale."""
    a0, a1, a2, b0, b1, b2 = transforms.T[:6]
    return {
        "shift_x": a0 * CENTER + a1 * CENTER + a2 - CENTER,
        "shift_y": b0 * CENTER + b1 * CENTER + b2 - CENTER,
        "rotation": np.arctan2(b0, a0) / (2 * np.pi),
        "zoom": np.hypot(a0, b0) - 1,
    }


@pytest.mark.parametrize(
    ("setting", "value", "moved", "limit"),
    [
        ("shift", 0.1, {"shift_x", "shift_y"}, 3.2),
        ("shift", 0.5, {"shift_x", "shift_y"}, 16),
        ("rotation", 0.03, {"rotation"}, 0.03),
        ("rotation", 0.4, {"rotation"}, 0.4),
        ("zoom", 0.1, {"zoom"}, 0.1),
        ("zoom", 0.9, {"zoom"}, 0.9),
    ],
)
def test_each_setting_alone_moves_what_it_names_by_at_most_its_amount(
    setting: str, value: float, moved: set[str], limit: float
) -> None:
    for name, amounts in moves(drawn(**{setting: value})).items():  # type: ignore[arg-type]
        if name not in moved:
            assert np.abs(amounts).max() < 1e-5
            continue
        assert np.abs(amounts).max() <= limit * (1 + 1e-4)
        # uniform: the extremes are reached both ways, and half of the draws lie within half of them
        assert amounts.max() > 0.97 * limit
        assert amounts.min() < -0.97 * limit
        assert np.mean(np.abs(amounts) < limit / 2) == pytest.approx(0.5, abs=0.08)


def test_the_settings_are_drawn_independently() -> None:
    amounts = moves(drawn(shift=0.1, rotation=0.03, zoom=0.1))
    correlations = np.corrcoef(np.stack(list(amounts.values())))
    assert np.abs(correlations - np.eye(4)).max() < 0.15


def test_no_setting_changes_no_pixel() -> None:
    images = tf.random.stateless_uniform((N, 32, 32, 1), [1, 2], maxval=255.0)
    assert np.allclose(transform(images, drawn()), images, atol=1e-2)


def test_a_transform_moves_the_picture_and_continues_its_edge() -> None:
    image = np.zeros((1, 32, 32, 1), np.float32)
    image[0, 16, 10], image[0, :, 0] = 200, 50
    shifted = transform(image, np.array([[1, 0, -3, 0, 1, -2, 0, 0]], np.float32))
    assert shifted[0, 18, 13, 0] == 200
    assert (np.asarray(shifted)[0, :, :4] == 50).all()


def test_the_draws_depend_on_seed_and_epoch_alone() -> None:
    assert (drawn(shift=0.1, zoom=0.1) == drawn(shift=0.1, zoom=0.1)).all()
    for other in (drawn(seed=2, shift=0.1), drawn(epoch=1, shift=0.1)):
        assert (drawn(shift=0.1) != other)[:, 2].all()
