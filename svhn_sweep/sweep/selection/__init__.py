"""Which config to recommend: confirmation, champion, confusion differences."""
