"""A button that copies the page's full address, with a list of other forms: Markdown, a frame for another page, the
lecture. Inside another page it is a link to the whole page."""

from __future__ import annotations

from pathlib import Path

from ui.components.component import component

_component = component(Path(__file__).parent)


def copy_link(says: str, *, back: bool = False) -> None:
    """Draw the button, or with `back` the link. The address already holds the whole view.

    Args:
        says: what the view shows, in one sentence; the text of a Markdown link and the title of a frame.
        back: draw the link to the whole page, for a page that is shown inside another.
    """
    _component(key="copy_link", data={"back": back, "says": says}, width="content")
