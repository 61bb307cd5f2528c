"""Horizontal bars with their values. They move to their new lengths, and can be saved as SVG or PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from ui.components.component import component
from viz.bars import Bar

_component = component(Path(__file__).parent, saves=True)


def bars(rows: Sequence[Bar], *, key: str, filename: str, alt: str, joined: bool = False, empty: str = "") -> None:
    """Draw the bars.

    Args:
        rows: bars made by ``viz.bars``, from top to bottom.
        key: stable key of the element.
        filename: name of a saved picture, without ending.
        alt: what the figure shows, for people who cannot see it.
        joined: draw a thin line from a bar's end to the next bar if that begins or ends there; for bars that add up.
        empty: the text to show if there are no bars.
    """
    if not rows:
        st.caption(empty)
        return
    data = {"bars": [row._asdict() for row in rows], "alt": alt, "filename": filename, "joined": joined}
    _component(key=key, data=data)
