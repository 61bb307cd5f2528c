"""What is worth computing once per server. Each function wraps a pure one of ``attention``; all are bounded."""

from __future__ import annotations

from typing import Any

import streamlit as st

from attention.spec import ModelSpec


@st.cache_resource(show_spinner=False, max_entries=1)
def catalogue() -> tuple[Any, ...]:
    """Rows of the catalogue in the order of the model picker: by family, then release, then size."""
    from attention import catalog

    rows = catalog.models()
    return tuple(sorted(rows, key=lambda row: (row.family, row.released or "", row.n_parameters or 0)))


@st.cache_resource(show_spinner=False, max_entries=1)
def catalogue_labels() -> dict[str, str]:
    """What the picker shows for each catalogue id."""
    return {row.id: row.label for row in catalogue()}


@st.cache_resource(show_spinner="Reading the configuration …", max_entries=64)
def pasted(text: str) -> tuple[ModelSpec, dict[str, Any]]:
    """The model that a pasted config.json describes, and the configuration itself.

    Raises:
        ValueError: not readable, or a field is missing or out of range; the message names it.
    """
    from attention import config_json

    config = config_json.load_config(text.encode("utf-8", errors="replace"))
    return config_json.spec_from_config(config, name="pasted config.json"), config
