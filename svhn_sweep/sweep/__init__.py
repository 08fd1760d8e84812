"""The sweep: the only room that imports Optuna."""
