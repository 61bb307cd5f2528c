"""Sources, limits, versions and licence."""

from ui import frame, lesson
from ui.sections import about as sections

with frame.page("about", title="About", lead="Where the figures are from, what they leave out, and what runs here."):
    lesson.show("about", **sections.facts())
