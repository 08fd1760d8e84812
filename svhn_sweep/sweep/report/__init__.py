"""What a sweep leaves behind: leaderboard, figures, HTML page, the study's MLflow run."""
