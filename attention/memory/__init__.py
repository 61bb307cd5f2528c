"""Exact bytes of what a model keeps for the tokens it has seen."""
