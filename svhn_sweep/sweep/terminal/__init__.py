"""Prints the plan, the progress and the dry run of a sweep."""
