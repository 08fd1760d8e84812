"""What happened in a run is written to the run's own folder first; MLflow is told from there, at
once or later.
"""
