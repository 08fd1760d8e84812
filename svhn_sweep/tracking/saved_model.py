"""Saves and loads trained models in MLflow's format; their input is raw pixels."""

import importlib.metadata
import shutil
from pathlib import Path

import keras
import numpy as np


def load_model(path: Path) -> keras.Model:
    """Returns the Keras model in a directory that `save_model` wrote."""
    import mlflow.keras

    return mlflow.keras.load_model(str(path))


def save_model(model: keras.Model, path: Path) -> None:
    """Writes an MLflow model directory, which `mlflow.pyfunc.load_model` reads.

    Args:
        model: Maps images, float32 [N, 32, 32, 1] in 0..255, to probabilities, [N, 10].
        path: The directory; what is there is replaced.
    """
    import mlflow.keras
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    pixels = TensorSpec(np.dtype(np.float32), (-1, 32, 32, 1))
    probabilities = TensorSpec(np.dtype(np.float32), (-1, 10))
    # Named, because inferring them starts a second TensorFlow and takes 6 s.
    requirements = [
        f"{name}=={importlib.metadata.version(name)}" for name in ("tensorflow", "keras", "numpy")
    ]
    shutil.rmtree(path, ignore_errors=True)
    mlflow.keras.save_model(
        model,
        str(path),
        signature=ModelSignature(Schema([pixels]), Schema([probabilities])),
        pip_requirements=requirements,
    )
