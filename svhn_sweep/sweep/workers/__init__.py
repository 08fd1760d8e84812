"""Trains trials on processes of this machine or on actors of a Ray cluster."""
