"""What a sweep is about to do: settings, search space, one plan for each model."""
