"""The Optuna study: which trial comes next, and the results."""
