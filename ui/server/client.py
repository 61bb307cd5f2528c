"""The client of the present session, as ``ui.server.clients`` determined it; the server's limits count by client."""

from __future__ import annotations

import streamlit as st

from ui.server.clients import HEADER


def current() -> str:
    """The client of this session. Without the gate (``streamlit run app.py``) it is the address of the connection, or
    "local" for this machine and in tests."""
    return str(st.context.headers.get(HEADER.decode()) or st.context.ip_address or "local")
