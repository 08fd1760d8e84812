"""Runs sweeps; the only package that imports Optuna."""
