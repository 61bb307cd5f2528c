"""The text on which the real model's heads and cache formats are shown; the visitor types it once for both."""

from __future__ import annotations

import streamlit as st

from attention import foreign_text
from attention.llm.plan import FIRST_TEXT, check_prompt
from ui.params import Param

MAX_TYPED = 2_000
"""The most characters that an address can hold."""


def checked(text: str) -> str:
    """A text that an address may hold.

    Raises:
        ValueError: the text is too long, or the model cannot read it.
    """
    if len(text) > MAX_TYPED:
        raise ValueError(f"{len(text):,} characters")
    return check_prompt(text)


TEXT = Param("real_text", FIRST_TEXT, checked, f"a text of 1 to {MAX_TYPED:,} characters")


def adopt(key: str, what: str) -> None:
    """Callback of the text field `key`: cut a text that is too long for an address, and say so; `what` names it."""
    typed = str(st.session_state.get(key, ""))
    st.session_state.pop(f"_{key}_cut", None)
    if len(typed) > MAX_TYPED:
        st.session_state[key] = typed[:MAX_TYPED]
        st.session_state[f"_{key}_cut"] = (
            f"The {what} had {len(typed):,} characters: the first {MAX_TYPED:,} are kept, the most that is accepted."
        )


def area() -> str | None:
    """Draw the field. Return the text, or None if it is not valid; :func:`say` then says why."""
    st.text_area("Text, at most 256 tokens", key=TEXT.key, height=68, on_change=adopt, args=(TEXT.key, "text"))
    return valid(TEXT.key)


def valid(key: str) -> str | None:
    """The text under a key; None if it is not valid."""
    try:
        return check_prompt(st.session_state[key])
    except ValueError:
        return None


def say(key: str) -> None:
    """Draw what was cut off a text, and why a text is not valid."""
    if cut := st.session_state.get(f"_{key}_cut"):
        st.caption(cut)
    try:
        check_prompt(st.session_state[key])
    except ValueError as error:
        st.warning(foreign_text.markdown(sentence(str(error))))


def sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
