"""What a sweep prints."""
