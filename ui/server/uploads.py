"""Limits on uploads: the bytes that a tab, a client and all clients may keep in memory, and the time of one upload."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from typing import TYPE_CHECKING

from streamlit import config

from attention.errors import TooSlowError
from ui.server.answers import refuse
from ui.server.book import Book
from ui.server.clients import KEY

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from attention.settings import Settings

ROUTE = re.compile(r"(?:^|/)_stcore/upload_file/([^/]+)/([^/]+)/?$")
FORM_BYTES = 4096
"""Bytes of the form around a file whose length is not announced."""
REFUSAL_S = 10.0


class Uploads:
    """ASGI middleware before Streamlit's upload route."""

    def __init__(self, app: ASGIApp, settings: Settings, book: Book) -> None:
        self.app, self._book, self._longest_s = app, book, settings.upload_seconds
        self._each = settings.session_upload_mb * 2**20
        self._client = settings.client_upload_mb * 2**20
        self._all = settings.max_upload_mb * 2**20

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = ROUTE.search(scope["path"]) if scope["type"] == "http" and scope["method"] == "PUT" else None
        if route is None:
            await self.app(scope, receive, send)
            return
        session, size = route[1], _announced(scope)
        if (words := self._refusal(session, scope[KEY], size)) is not None:
            await _let_it_end(receive)
            await refuse(scope, send, 413, words)
            return
        self._book.arriving(session, size)
        began, answered = time.monotonic(), False

        async def in_time() -> Message:
            try:
                return await asyncio.wait_for(receive(), max(0.0, began + self._longest_s - time.monotonic()))
            except TimeoutError:
                raise TooSlowError from None

        async def noting(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self.app(scope, in_time, noting)
        except TooSlowError:
            if not answered:
                await refuse(scope, send, 408, f"The file did not arrive within {self._longest_s} seconds.")
        finally:
            self._book.arriving(session, -size)

    def _refusal(self, session: str, asking: str, size: int) -> str | None:
        """Why the upload is refused; None if it is accepted. It counts for the client to which the session belongs."""
        book = self._book
        client = book.client_of.get(session, asking)
        if book.kept(session) + size > self._each:
            return f"This tab keeps {self._each // 2**20} MiB of files already: remove one, or reload the page."
        if book.kept_by(client) + size > self._client:
            return f"Your tabs keep {self._client // 2**20} MiB of files already: close one of them first."
        if book.kept_in_all() + size > self._all:
            return "The server keeps as many files of visitors as it can: try again in a few minutes."
        return None


async def _let_it_end(receive: Receive) -> None:
    """Read the rest of the upload and drop it, for at most REFUSAL_S and twice the size of a file.

    A browser that gets an answer while it is still sending shows a broken connection instead of the sentence.
    """
    left = 2 * int(config.get_option("server.maxUploadSize")) * 2**20
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REFUSAL_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    return


def _announced(scope: Scope) -> int:
    """Bytes that an upload may have: from its header, otherwise the most that an upload may have."""
    most = int(config.get_option("server.maxUploadSize")) * 2**20
    told = dict(scope["headers"]).get(b"content-length", b"")
    return min(int(told), most) if told.isdigit() and len(told) < 12 else most + FORM_BYTES
