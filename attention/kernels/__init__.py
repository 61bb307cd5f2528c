"""Implementations of attention over a cache. ``case`` and ``names`` are free of torch."""
