"""Turns settings and overrides into plans: one study for each model."""
