"""Selects an ensemble of trained models and builds it as one Keras model."""

from collections.abc import Mapping

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from svhn_sweep.data.splits import Labels
from svhn_sweep.training.model import INPUT_SHAPE

MAX_DRAWS = 10  # of models, with replacement: as many as there are tenths of the mean
MIN_PROBABILITY = 1e-7  # as in Keras' cross-entropy

Indices = NDArray[np.int64]


def split_halves(labels: Labels, seed: int) -> tuple[Indices, Indices]:
    """Splits images at random into two halves with the same digits.

    Args:
        labels: The digits of the images, uint8 [N].
        seed: The same seed gives the same halves.

    Returns:
        The sorted indices of the half that selects and of the half that judges. The halves differ
        by at most one image, also among the images of each digit.
    """
    shuffled = np.lexsort((np.random.default_rng(seed).random(len(labels)), labels))
    return np.sort(shuffled[0::2]), np.sort(shuffled[1::2])


def select_members(probabilities: NDArray[np.float32], labels: Labels, limit: int) -> Indices:
    """Selects models whose mean probabilities fit the labels best, greedily and with replacement.

    The model that is best alone comes first. Then the model that improves the mean most is added
    again and again, and of these ensembles the best one is returned (Caruana et al., Ensemble
    Selection from Libraries of Models, 2004, section 2). Better means a lower cross-entropy:
    selection by accuracy takes models that only blur the probabilities.

    Args:
        probabilities: The models' probabilities, [models, N, 10].
        labels: The digits of the images, uint8 [N].
        limit: The most different models in the ensemble.

    Returns:
        How often each model counts, [models]; 0 for those that are not in the ensemble.
    """
    counts = np.zeros(len(probabilities), np.int64)
    best = counts
    best_score = -np.inf
    total = np.zeros(probabilities.shape[1:])
    for draw in range(1, MAX_DRAWS + 1):
        full = np.count_nonzero(counts) == limit
        scores = {
            index: _log_likelihood((total + model) / draw, labels)
            for index, model in enumerate(probabilities)
            if counts[index] or not full
        }
        chosen = max(scores, key=lambda index: scores[index])
        total += probabilities[chosen]
        counts[chosen] += 1
        if scores[chosen] > best_score:
            best = counts.copy()
            best_score = scores[chosen]
    weights: Indices = best // np.gcd.reduce(best)
    return weights


def build_ensemble(members: Mapping[str, keras.Model], counts: Mapping[str, int]) -> keras.Model:
    """Returns one model whose probabilities are the weighted mean of its members'.

    Args:
        members: Models from raw pixels to probabilities, by their names in the ensemble; their
            weights are shared, not copied.
        counts: How often each member counts, by the same names.

    Returns:
        A model from float [N, 32, 32, 1] in 0..255 to float32 [N, 10], of Keras' own layers alone.
    """
    pixels = keras.Input(INPUT_SHAPE, name="pixels")
    outputs = []
    for name, model in members.items():
        # Two trials' models have the same name, which Keras allows once in a model.
        member = keras.Model(model.inputs[0], model.outputs[0], name=name)
        outputs += [member(pixels)] * counts[name]
    mean = layers.Average(name="mean", dtype="float32")(outputs)
    return keras.Model(pixels, mean, name="ensemble")


def _log_likelihood(probabilities: NDArray[np.float64], labels: Labels) -> float:
    """The negative cross-entropy: the larger, the better."""
    likelihood = np.maximum(probabilities[np.arange(len(labels)), labels], MIN_PROBABILITY)
    return float(np.mean(np.log(likelihood)))
