"""Commands besides training."""
