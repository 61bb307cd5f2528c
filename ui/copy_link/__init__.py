"""A button that copies the page's full address."""

from __future__ import annotations

from pathlib import Path

from ui.component import component

_component = component(Path(__file__).parent)


def copy_link() -> None:
    """Draw the button. The address already holds the whole view, so there is nothing to pass."""
    _component(key="copy_link", width="content")
