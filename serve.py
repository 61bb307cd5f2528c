"""What a host runs: ``streamlit run serve.py``. The app, with security headers on every answer, limits of what one
client may use (``ui/server``), and a front end that is there sooner (``ui/server/front_end.py``).

``streamlit run app.py`` serves the same pages without them.
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
    """What is done once, on the loop that serves, before the first visitor."""
    escape_control_characters()
    open_connections = connections.watch(settings)
    connections.prepare_listening()
    # libraries look for one another while they load; visitors who come at the same moment met a half-loaded pandas
    await asyncio.to_thread(importlib.import_module, "pandas")
    # what links show of themselves, and most of what pages load; its components can be declared by now
    await asyncio.to_thread(importlib.import_module, "ui.view_words")
    # the first run finds it ready: it takes about as long as a browser takes to open the first page
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
