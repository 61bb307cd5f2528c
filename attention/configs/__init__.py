"""Reads published configurations into a ModelSpec, or refuses them with a reason."""
