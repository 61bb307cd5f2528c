"""The exact number of bytes that a model keeps for the tokens it has seen."""
