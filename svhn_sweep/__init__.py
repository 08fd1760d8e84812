"""Experiment-tracked hyperparameter sweeps for two small CNNs on Street View House Numbers."""

__version__ = "0.1.0"
