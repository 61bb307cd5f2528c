"""Decode steps over every kind of cache that is timed: latent vectors, windows, quantised rows; several new tokens."""
