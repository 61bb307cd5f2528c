"""Middleware and the queue around the app: scripts for the browser, runs in turn, limits on what one client may use."""
