"""Refuse a request, of HTTP or of a WebSocket, with a sentence for the visitor."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Scope, Send


async def refuse(scope: Scope, send: Send, status: int, words: str) -> None:
    """Answer an HTTP request, or a WebSocket's handshake, with a status and a sentence for the visitor."""
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    if scope["type"] == "websocket" and kind not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1013, "reason": words[:120]})
        return
    body = words.encode() + b"\n"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        # the rest of the request is not read
        (b"connection", b"close"),
    ]
    if status in (429, 503):
        headers.append((b"retry-after", b"60"))
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
