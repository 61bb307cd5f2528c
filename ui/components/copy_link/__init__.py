"""A button that copies the page's full address, and a list of the other ways to take the view along: as Markdown, as a
frame in another page, as a lecture. Inside another page, a link to the whole of this one."""

from __future__ import annotations

from pathlib import Path

from ui.components.component import component

_component = component(Path(__file__).parent)


def copy_link(says: str, *, back: bool = False) -> None:
    """Draw the button, or with `back` the link. The address already holds the whole view.

    Args:
        says: what the view shows, one sentence; beside the address where text stands.
    """
    _component(key="copy_link", data={"back": back, "says": says}, width="content")
