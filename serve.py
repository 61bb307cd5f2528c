"""What a host runs: ``streamlit run serve.py``. The app, with security headers on every answer, limits of what one
client may use (``ui/server``), and a front end that is there sooner (``ui/server/front_end.py``).

``streamlit run app.py`` serves the same pages without them.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import streamlit as st
from starlette.middleware import Middleware

from attention.log_lines import escape_control_characters
from attention.settings import load_or_exit
from attention.worker import client as worker
from ui.server import connections, gate
from ui.server.front_end import FrontEnd

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# a wrong setting ends the start here, with a message for the operator
settings = load_or_exit()

# Streamlit's front end styles inline, compiles components' code and draws to blobs; everything else stays at home.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' ws: wss: blob: data:",
        "worker-src 'self' blob:",
        "frame-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        f"frame-ancestors {settings.frame_ancestors}",
    )
)
HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=()"),
)


class SecurityHeaders:
    """ASGI middleware that adds HEADERS to HTTP answers and leaves WebSockets alone."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in HEADERS}
                kept = [(name, value) for name, value in message["headers"] if name.lower() not in names]
                message = {**message, "headers": [*kept, *HEADERS]}
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


@asynccontextmanager
async def around(_: st.App) -> AsyncIterator[None]:
    """What is done once, on the loop that serves, before the first visitor."""
    escape_control_characters()
    open_connections = connections.watch(settings)
    connections.prepare_listening()
    # libraries look for one another while they load; visitors who come at the same moment met a half-loaded pandas
    await asyncio.to_thread(importlib.import_module, "pandas")
    # the first run finds it ready: it takes about as long as a browser takes to open the first page
    await asyncio.to_thread(worker.warm)
    sweeping = asyncio.create_task(open_connections.sweep_for_ever())
    yield
    sweeping.cancel()


app = st.App(
    "app.py",
    middleware=[Middleware(SecurityHeaders), *gate.middleware(settings), Middleware(FrontEnd)],
    lifespan=around,
)
