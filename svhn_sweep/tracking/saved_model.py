"""The trained model in MLflow's own format: whoever loads it passes raw pixels."""

import importlib.metadata
import shutil
from pathlib import Path

import keras
import numpy as np


def load_model(path: Path) -> keras.Model:
    """The Keras model in a directory that `save_model` wrote."""
    import mlflow.keras

    return mlflow.keras.load_model(str(path))


def save_model(model: keras.Model, path: Path) -> None:
    """Write a directory that `mlflow.pyfunc.load_model` reads, from float32 [N, 32, 32, 1] in
    0..255 to [N, 10].

    Requirements are named, not inferred: inferring starts a second TensorFlow and takes 6 s.
    """
    import mlflow.keras
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    pixels = TensorSpec(np.dtype(np.float32), (-1, 32, 32, 1))
    probabilities = TensorSpec(np.dtype(np.float32), (-1, 10))
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
