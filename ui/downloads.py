"""Buttons that hand a page's numbers to the visitor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from attention import tables


def buttons(rows: Sequence[tables.Row] | Callable[[], Sequence[tables.Row]], name: str, **stamp: Any) -> None:
    """CSV and JSON of `rows`, side by side.

    Args:
        rows: dictionaries with the same keys, or what makes them when a button is pressed.
        name: of the file, without ending; also names the buttons (``NAME_csv``, ``NAME_json``).
        stamp: what the numbers were computed for, written into the JSON.
    """

    def made() -> Sequence[tables.Row]:
        return rows() if callable(rows) else rows

    with st.container(horizontal=True, key=f"{name}_downloads"):
        # the data are made when the button is pressed; the callable runs off the script thread and sees only `rows`
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
