"""Ways to compute attention over a cache. ``case`` and ``names`` are free of torch."""
