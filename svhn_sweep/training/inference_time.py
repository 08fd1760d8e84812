"""Measures how long a model takes to predict on one core."""

import time

import keras
import numpy as np

from svhn_sweep.training.evaluation import predictor
from svhn_sweep.training.model import INPUT_SHAPE

IMAGES = 1000
MIN_PASSES, MAX_PASSES = 3, 5
MIN_TOTAL_SECONDS = 10.0  # in less time there are more passes than MIN_PASSES


def inference_seconds(model: keras.Model) -> list[float]:
    """Predicts 1,000 images several times.

    What counts is the CPU time of this process: other programs on the machine hardly add to it.
    The process must have set TensorFlow to one thread, and must have nothing else to do.

    Args:
        model: Takes raw pixels; its weights and the images have no influence on the time.

    Returns:
        The seconds of each pass. A first pass, for which TensorFlow compiles, is not among them.
    """
    predict = predictor(model)
    pixels = np.random.default_rng(0).uniform(0, 255, (IMAGES, *INPUT_SHAPE)).astype(np.float32)
    predict(pixels)
    seconds: list[float] = []
    while len(seconds) < MAX_PASSES:
        start = time.process_time()
        predict(pixels)
        seconds.append(time.process_time() - start)
        if len(seconds) >= MIN_PASSES and sum(seconds) > MIN_TOTAL_SECONDS:
            break
    return seconds
