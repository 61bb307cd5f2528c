"""For each page a question to guess at, what it teaches, and three worked problems. All figures are computed."""
