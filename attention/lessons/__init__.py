"""The code of the lesson, the check of that code at a reader's sizes, and the quiz."""
