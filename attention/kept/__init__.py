"""Runs and jobs that are kept under links, in SQLite or PostgreSQL."""
