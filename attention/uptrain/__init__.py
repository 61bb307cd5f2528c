"""Uptraining: training after a conversion."""
