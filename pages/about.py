"""Sources, limits, versions and licence."""

from ui import about, frame, lesson

with frame.page("about", title="About", lead="Where the figures are from, what they leave out, and what runs here."):
    lesson.show("about", **about.facts())
