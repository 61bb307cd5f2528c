"""The panel under More: an expander that floats, and closes by Escape or a click elsewhere as a menu does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

from ui.components.component import component

_component = component(Path(__file__).parent, html="")


@contextmanager
def more_panel(label: str) -> Iterator[None]:
    """Open the panel as a place to draw controls into.

    It is no ``st.popover``: the browser makes what stands in a popover when that is opened, so a control that the page
    has set before shows its first option then, and a control that was closed away tells its last value for ever. What
    stands in an expander is there whether it is open or not.
    """
    with st.container(key="more"):
        with st.expander(label):
            yield
        _component(key="more_close", width="content")
