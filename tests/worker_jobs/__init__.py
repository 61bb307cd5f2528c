"""Handlers for tests/worker/test_worker.py."""
