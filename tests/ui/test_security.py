"""Every answer over HTTP has each security header once, with the operator's setting for frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attention.settings import load
from tests.event_loop import run
from ui.server.security import SecurityHeaders

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"content-type", b"text/plain"), (b"X-Content-Type-Options", b"none")]
    await send({"type": f"{scope['type']}.response.start", "status": 200, "headers": headers})


def headers_of(kind: str) -> list[tuple[bytes, bytes]]:
    """The headers of an answer to a request of `kind`, "http" or "websocket"."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing is asked for")

    settings = load({"HEADSHARE_FRAME_ANCESTORS": "https://frames.example"})
    run(SecurityHeaders(app, settings)({"type": kind}, receive, send))
    return list(sent[0]["headers"])


def test_an_answer_has_each_header_once() -> None:
    found = headers_of("http")
    named = dict(found)
    assert len(named) == len(found) == 5
    assert named[b"x-content-type-options"] == b"nosniff"
    assert named[b"content-type"] == b"text/plain"
    policy = named[b"content-security-policy"].decode().split("; ")
    assert "object-src 'none'" in policy
    assert policy[-1] == "frame-ancestors https://frames.example"


def test_a_websocket_is_left_alone() -> None:
    assert len(headers_of("websocket")) == 2
