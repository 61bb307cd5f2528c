"""Refuses what it is asked for."""


def run(payload, emit, should_stop):
    raise ValueError(f"n_heads must be positive, got {payload['n_heads']}")
