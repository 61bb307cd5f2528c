"""What a host runs: ``streamlit run serve.py``. The app, with security headers on every answer and a front end that is
there sooner (``ui/front_end.py``).

``streamlit run app.py`` serves the same pages without either.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import psutil
import streamlit as st
from starlette.middleware import Middleware

from attention import settings
from ui.front_end import FrontEnd

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
        f"frame-ancestors {settings.load().frame_ancestors}",
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
async def send_at_once(_: st.App) -> AsyncIterator[None]:
    """Turn Nagle's algorithm off, with which an answer in several parts waits 40 ms for a delayed acknowledgement.

    asyncio does it for sockets made with their protocol named, which Streamlit's is not. What a listening socket is
    told holds for every connection that it accepts.
    """
    for connection in psutil.Process().net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN:
            with socket.fromfd(connection.fd, connection.family, socket.SOCK_STREAM) as listening:
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    yield


app = st.App("app.py", middleware=[Middleware(SecurityHeaders), Middleware(FrontEnd)], lifespan=send_at_once)
