"""Runs and jobs that are kept for their links: SQLite or PostgreSQL."""
