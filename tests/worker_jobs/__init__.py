"""Handlers for tests/test_worker.py."""
