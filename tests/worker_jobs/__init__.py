"""Handlers for tests/worker."""
