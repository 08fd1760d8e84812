"""From arrays to a judged model. Knows neither MLflow nor Optuna."""
