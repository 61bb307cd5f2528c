"""The visitor's guesses and the sentences to remember; the page can be copied as an address or printed."""

from attention.find_out.pages import PAGES
from ui import frame, quiz
from ui.sections import summary as sections

LEAD = "Your guesses and the sentences behind them: Copy link keeps this page as it is, and it prints well."

with frame.page("summary", title="What you found out", lead=LEAD, params=[quiz.guess_param(page) for page in PAGES]):
    outcomes = sections.outcomes()
    sections.metrics(outcomes)
    with frame.details():
        sections.each(outcomes)
