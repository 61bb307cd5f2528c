"""Checks the computed sizes against models' own code, and keeps the results."""
