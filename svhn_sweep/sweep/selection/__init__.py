"""Selects the config to recommend: confirmation, champion, confusion matrices."""
