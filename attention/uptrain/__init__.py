"""Training after a conversion."""
