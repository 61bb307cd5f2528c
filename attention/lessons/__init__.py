"""The lesson's code, the check of a reader's code, and the quiz."""
