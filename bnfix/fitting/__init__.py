"""Bring the layers of a new model close to what those of an old one computed, by data."""
