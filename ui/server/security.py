"""Security headers on every answer.

The content security policy of a page allows what Streamlit's front end needs: inline styles, compiled code of
components, and blobs. Otherwise it allows this server's own content only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from attention.settings import Settings

CONTENT_SECURITY_POLICY = (
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
)
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=()"),
)


class SecurityHeaders:
    """ASGI middleware that sets these headers in HTTP answers and does not change WebSockets."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        policy = "; ".join((*CONTENT_SECURITY_POLICY, f"frame-ancestors {settings.frame_ancestors}"))
        self.app = app
        self._headers = ((b"content-security-policy", policy.encode()), *HEADERS)
        self._names = {name for name, _ in self._headers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message["headers"] if name.lower() not in self._names]
                message = {**message, "headers": [*kept, *self._headers]}
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)
