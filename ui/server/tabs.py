"""Limits on tabs: how many a client may have open, and how fast a tab may send. A closed tab's session is ended.

Streamlit keeps a session that has lost its connection for `server.disconnectedSessionTTL`, in case the tab comes back.
Then it drops the session without ending it: its uploads and the three descriptors of its event loop stay until a
garbage collection. Here the session is ended: at once if the tab was closed on purpose, otherwise after that time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from streamlit import config
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from ui.server.answers import refuse
from ui.server.book import Book
from ui.server.clients import KEY

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from attention.settings import Settings

STREAM = "_stcore/stream"
GOODBYE = (1000, 1001)
"""Codes of a connection that was closed on purpose: by the page's script, or because the tab was closed."""
MESSAGES_PER_S, BYTES_PER_S = 50.0, 2e6
BURST_S = 4.0
"""A tab may send this much per second, and BURST_S seconds' worth at once. A pasted configuration has up to 3 MB."""
FIRST_MESSAGES = 20
"""The message that names the session is among the first FIRST_MESSAGES of a tab."""


class Bucket:
    """A token bucket: `per_s` units a second, and at most `burst_s` seconds' worth at once."""

    def __init__(self, per_s: float, burst_s: float = BURST_S) -> None:
        self._per_s, self._most = per_s, per_s * burst_s
        self._left, self._at = self._most, time.monotonic()

    def take(self, amount: float) -> float:
        """Take `amount`; returns the seconds to wait before taking more."""
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self._per_s) - amount
        self._at = now
        return max(0.0, -self._left / self._per_s)

    def may_take(self, amount: float) -> bool:
        """Take `amount` if it is there now; otherwise take nothing and return False."""
        if self.take(amount) > 0:
            self._left += amount
            return False
        return True


class Tabs:
    """ASGI middleware around the WebSocket of each tab."""

    def __init__(self, app: ASGIApp, settings: Settings, book: Book) -> None:
        self.app, self._book = app, book
        self._most, self._most_each = settings.max_sessions, settings.client_sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket" or not scope["path"].strip("/").endswith(STREAM):
            await self.app(scope, receive, send)
            return
        client = scope[KEY]
        if (words := self._refusal(client)) is not None:
            await refuse(scope, send, 503, words)
            return
        tab = _Tab(receive, send, lambda session: self._book.enter(session, client))
        self._book.open[client] += 1
        try:
            await self.app(scope, tab.receive, tab.send)
        finally:
            self._book.open[client] -= 1
            if not self._book.open[client]:
                del self._book.open[client]
            if tab.session:
                self._end(tab.session, at_once=tab.code in GOODBYE)

    def _refusal(self, client: str) -> str | None:
        if self._book.open[client] >= self._most_each:
            return f"You have {self._most_each} tabs of this site open already: close one first."
        if self._book.open.total() >= self._most:
            return "As many people as this server can serve are here already: try again in a few minutes."
        return None

    def _end(self, session: str, *, at_once: bool) -> None:
        if at_once:
            self._book.close(session)
        else:
            keep_s = float(config.get_option("server.disconnectedSessionTTL"))
            asyncio.get_running_loop().call_later(keep_s, self._book.close, session)


class _Tab:
    """One connection: notes the session's id and the code of its end, and slows down a tab that sends too fast."""

    def __init__(self, receive: Receive, send: Send, named: Callable[[str], None]) -> None:
        self._receive, self._send, self._named = receive, send, named
        self.session = ""
        self.code = 1006
        self._sent = 0
        self._messages, self._bytes = Bucket(MESSAGES_PER_S), Bucket(BYTES_PER_S)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.code = int(message.get("code") or 1006)
        elif message["type"] == "websocket.receive":
            size = len(message.get("bytes") or message.get("text") or b"")
            # the connection is not read during the sleep, so the sender has to wait too
            if (wait_s := max(self._messages.take(1), self._bytes.take(size))) > 0:
                await asyncio.sleep(wait_s)
        return message

    async def send(self, message: Message) -> None:
        if not self.session and message["type"] == "websocket.send" and self._sent < FIRST_MESSAGES:
            self._sent += 1
            self._name(message.get("bytes") or b"")
        await self._send(message)

    def _name(self, data: bytes) -> None:
        forward = ForwardMsg()
        forward.ParseFromString(data)
        if forward.WhichOneof("type") == "new_session":
            self.session = forward.new_session.initialize.session_id
            self._named(self.session)
