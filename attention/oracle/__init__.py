"""The model's own code as judge, and the recorded comparison with it."""
