"""Results that a server computes once. Each function wraps a pure function of ``attention``; all caches are bounded."""

from __future__ import annotations

from typing import Any

import streamlit as st

from attention.spec import ModelSpec


@st.cache_resource(show_spinner="Reading the configuration …", max_entries=64)
def pasted(text: str) -> tuple[ModelSpec, dict[str, Any]]:
    """The model that a pasted config.json describes, and the configuration itself.

    Raises:
        ValueError: the text is not readable, or a field is missing or out of range; the message names it.
    """
    from attention.configs import reader

    config = reader.load_config(text.encode("utf-8", errors="replace"))
    return reader.spec_from_config(config, name="pasted config.json"), config
