"""The commands besides training and sweeping: ui, sync, predict and audit."""
