"""A host runs this file: ``streamlit run serve.py``. It serves the app with security headers on every answer, with
limits on what one client may use (``ui/server``), and with a front end that loads faster (``ui/server/front_end.py``).

``streamlit run app.py`` serves the same pages without these three.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import streamlit as st
from starlette.middleware import Middleware

from attention.log_lines import escape_control_characters
from attention.settings import load_or_exit
from attention.worker import client as worker
from ui.server import connections, gate
from ui.server.front_end import FrontEnd
from ui.server.security import SecurityHeaders

# a wrong setting ends the start here, with a message for the operator
settings = load_or_exit()


@asynccontextmanager
async def around(_: st.App) -> AsyncIterator[None]:
    """Prepare the process once, on the event loop that serves, before the first visitor; stop sweeping at the end."""
    escape_control_characters()
    open_connections = connections.watch(settings)
    connections.prepare_listening()
    # libraries look for one another while they load: two visitors at the same moment could meet a half-loaded pandas
    await asyncio.to_thread(importlib.import_module, "pandas")
    # this module writes the previews of links and imports most of what pages need; components can be declared by now
    await asyncio.to_thread(importlib.import_module, "ui.view_words")
    # the worker is then ready for the first run; its start takes about as long as a browser takes to open a page
    await asyncio.to_thread(worker.warm)
    sweeping = asyncio.create_task(open_connections.sweep_for_ever())
    yield
    sweeping.cancel()


app = st.App(
    "app.py",
    middleware=[
        Middleware(SecurityHeaders, settings=settings),
        *gate.middleware(settings),
        Middleware(FrontEnd, settings=settings),
    ],
    lifespan=around,
)
