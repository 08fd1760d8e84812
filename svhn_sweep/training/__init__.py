"""Builds, trains and evaluates models; imports neither MLflow nor Optuna."""

from svhn_sweep import environment

environment.ignore_settings()  # before TensorFlow and Keras, which read them when imported
