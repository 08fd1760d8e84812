"""Selecting an ensemble from probabilities, as a table, and building it as one Keras model."""

import keras
import numpy as np
import pytest

from svhn_sweep.training.ensemble import build_ensemble, select_members, split_halves

# Each digit of a text is what a model predicts of an image, whose true digit is at that place here.
TRUTH = "0123456789"


def model(predictions: str, confidence: float) -> np.ndarray:
    """Probabilities, [10, 10], with one confidence for all predicted digits."""
    probabilities = np.full((10, 10), (1 - confidence) / 9, np.float32)
    probabilities[np.arange(10), [int(digit) for digit in predictions]] = confidence
    return probabilities


@pytest.mark.parametrize(
    ("models", "limit", "counts"),
    [
        # the best one alone, if the others add nothing
        ([("0123456789", 0.99), ("1111111111", 0.99)], 5, [1, 0]),
        ([("0000000000", 0.99), ("0123456789", 0.99)], 5, [0, 1]),
        # of equally accurate models the surer one
        ([("0123456789", 0.5), ("0123456789", 0.9)], 5, [0, 1]),
        # a majority: three models that err in different places
        ([("1023456789", 0.9), ("0132456789", 0.9), ("0123546789", 0.9)], 5, [1, 1, 1]),
        # a model that is surely wrong about many images counts less
        ([("1123456789", 0.6), ("0123444444", 0.9)], 5, [4, 1]),
    ],
)
def test_models_are_selected_greedily_and_with_replacement(
    models: list[tuple[str, float]], limit: int, counts: list[int]
) -> None:
    probabilities = np.stack([model(*item) for item in models])
    labels = np.array([int(digit) for digit in TRUTH], np.uint8)
    assert select_members(probabilities, labels, limit).tolist() == counts


@pytest.mark.parametrize("limit", [2, 3, 5])
def test_at_most_so_many_different_models_are_selected(limit: int) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 200).astype(np.uint8)
    probabilities = random.dirichlet(np.ones(10), (8, 200)).astype(np.float32)
    probabilities[:, np.arange(200), labels] += 0.1
    counts = select_members(probabilities, labels, limit)
    assert 1 < np.count_nonzero(counts) <= limit


@pytest.mark.parametrize(
    "counts",
    [
        dict.fromkeys(range(10), 20),
        {digit: 7 + digit for digit in range(10)},
        {0: 1, 3: 2, 5: 1},  # a digit with a single image
        {8: 1},
    ],
)
def test_the_halves_have_the_same_digits(counts: dict[int, int]) -> None:
    labels = np.repeat(list(counts), list(counts.values())).astype(np.uint8)
    selecting, judging = split_halves(labels, 42)
    assert sorted([*selecting, *judging]) == list(range(len(labels)))
    assert abs(len(selecting) - len(judging)) <= 1
    for digit in counts:
        assert abs(np.sum(labels[selecting] == digit) - np.sum(labels[judging] == digit)) <= 1
    again, other = split_halves(labels, 42)[0], split_halves(labels, 43)[0]
    assert again.tolist() == selecting.tolist()
    assert len(labels) < 50 or other.tolist() != selecting.tolist()


def test_the_ensemble_predicts_the_weighted_mean_of_its_members(
    digits: tuple[np.ndarray, np.ndarray],
) -> None:
    images, _ = digits
    members = {
        name: keras.Sequential(
            [
                keras.Input((32, 32, 1)),
                keras.layers.Rescaling(1 / 255),
                keras.layers.Flatten(),
                keras.layers.Dense(10, activation="softmax"),
            ],
            name="model1",
        )
        for name in ("trial_0", "trial_7")
    }
    ensemble = build_ensemble(members, {"trial_0": 1, "trial_7": 2})
    first, second = (model.predict_on_batch(images) for model in members.values())
    expected = (first + 2 * second) / 3
    np.testing.assert_allclose(ensemble.predict_on_batch(images), expected, rtol=1e-5)
    assert ensemble.count_params() == 2 * members["trial_0"].count_params()
    assert {"trial_0", "trial_7"} <= {layer.name for layer in ensemble.layers}
