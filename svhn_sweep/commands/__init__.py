"""The commands besides training and sweeping: ui, sync and predict."""
