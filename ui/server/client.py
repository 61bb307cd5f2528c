"""Who looks at the page, as far as sharing the server goes: the client that ``ui.server.clients`` found."""

from __future__ import annotations

import streamlit as st

from ui.server.clients import HEADER


def current() -> str:
    """The client of this session. Where the gate is not in front (``streamlit run app.py``), its address; "local" for
    this machine and in tests."""
    return str(st.context.headers.get(HEADER.decode()) or st.context.ip_address or "local")
