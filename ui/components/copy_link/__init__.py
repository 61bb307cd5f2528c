"""A button that copies the page's full address; inside another page, a link to the whole of this one."""

from __future__ import annotations

from pathlib import Path

from ui.components.component import component

_component = component(Path(__file__).parent)


def copy_link(*, back: bool = False) -> None:
    """Draw the button, or with `back` the link. The address already holds the whole view, so nothing else is passed."""
    _component(key="copy_link", data={"back": back}, width="content")
