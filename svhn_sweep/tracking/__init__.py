"""Records runs in their own folders and uploads them to MLflow from there, at once or later."""
