"""Buttons that download a page's numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from attention import tables


def buttons(rows: Sequence[tables.Row] | Callable[[], Sequence[tables.Row]], name: str, **stamp: Any) -> None:
    """Draw two buttons that download `rows` as CSV and as JSON.

    Args:
        rows: dictionaries with the same keys, or a function that makes them when a button is pressed.
        name: name of the file, without ending; also names the buttons (``NAME_csv``, ``NAME_json``).
        stamp: what the numbers were computed for; it is written into the JSON.
    """

    def made() -> Sequence[tables.Row]:
        return rows() if callable(rows) else rows

    with st.container(horizontal=True, key=f"{name}_downloads"):
        # the function runs when the button is pressed, in another thread than the script, and uses `rows` only
        st.download_button(
            "CSV", lambda: tables.to_csv(made()), f"{name}.csv", "text/csv", key=f"{name}_csv", on_click="ignore"
        )
        st.download_button(
            "JSON",
            lambda: tables.to_json(made(), **stamp),
            f"{name}.json",
            "application/json",
            key=f"{name}_json",
            on_click="ignore",
        )
