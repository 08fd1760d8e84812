"""Writes a study's leaderboard, figures, HTML report and MLflow run."""
