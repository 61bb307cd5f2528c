"""The panel under More: an expander that floats, and that closes like a menu, by Escape or a click elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

from ui.components.component import component

_component = component(Path(__file__).parent, html="")


@contextmanager
def more_panel(label: str) -> Iterator[None]:
    """Draw the panel; controls that are drawn inside the ``with`` block are placed in it.

    It is no ``st.popover``: the browser creates the controls of a popover only when it opens. A control that the page
    has set before then shows its first option, and after closing a control keeps reporting its last value. The controls
    of an expander exist whether it is open or not.
    """
    with st.container(key="more"):
        with st.expander(label):
            yield
        _component(key="more_close", width="content")
