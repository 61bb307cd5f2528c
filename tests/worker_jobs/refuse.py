"""Something asked for that can't be."""


def run(payload, emit, should_stop):
    raise ValueError(f"n_heads must be positive, got {payload['n_heads']}")
