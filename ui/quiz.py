"""Questions at the end of a page, answered by moving its controls."""

from __future__ import annotations

from typing import Any

import streamlit as st

from attention.lessons.quiz import questions


def show(page: str, **values: Any) -> None:
    """Draw the page's questions; `values` is what the page shows now, by the names the questions use."""
    st.markdown("### Find out")
    st.caption("Answer by moving the controls above; each line says what the page shows now.")
    for question in questions(page):
        solved, says = question.judge(**values)
        with st.container(key=f"quiz_{page}_{question.key}", border=True, gap=None):
            verdict = f":green[**✓ That is it:**] {says}." if solved else f"Now: {says}."
            st.markdown(f"{question.prompt}\n\n{verdict}")
