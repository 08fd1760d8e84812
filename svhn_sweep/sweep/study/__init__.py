"""One study: asks Optuna for trials and tells it their results."""
