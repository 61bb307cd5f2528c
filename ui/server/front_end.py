"""Streamlit's own scripts on their way to the browser: compressed, kept in memory, and the ones that every page of ours
needs asked for while the page is still loading instead of one after another once its content has arrived. The icon in
the browser's tab is ours, and so is what a link shows of itself (``previews``).

Middleware around the app, see ``serve.py``. Whatever it does not know is Streamlit's to answer.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import mimetypes
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit

from ui.server.previews import PLACE, Previews, page_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from attention.settings import Settings

FOLDER = Path(streamlit.__file__).parent / "static"
OURS = Path(__file__).parent
PARTS = (
    *("Html/Html", "PageLink/PageLink", "Metric/Metric"),
    *("BidiComponent/BidiComponent", "Selectbox/Selectbox", "Slider/Slider", "NumberInput/NumberInput"),
    *("Button/Button", "ButtonGroup/ButtonGroup"),
)
"""Parts of the front end that are drawn by our pages, as its manifest names them."""
FIGURES = ("PlotlyChart/PlotlyChart",)
"""Fetched early too, but read only when a figure arrives: 4.7 MB, during which nothing else would be drawn."""
COMPRESSIBLE = (".js", ".css", ".svg", ".json")
PART_BYTES = 2**16
_HOW_TO_ANSWER = (b"accept-encoding", b"if-none-match", b"if-modified-since")
_TITLE = re.compile(rb"<title>.*?</title>", re.DOTALL)
FOR_A_YEAR = b"public, immutable, max-age=31536000"
"""Every name contains a hash of its content."""


@cache
def needed(parts: tuple[str, ...] = PARTS) -> tuple[str, ...]:
    """Names below "static/" of the scripts behind some parts, those that Streamlit's page asks for itself left out.

    Another version of Streamlit may name its parts otherwise: what is not found is loaded later, as without us.
    """
    try:
        manifest: dict[str, Any] = json.loads((FOLDER / "manifest.json").read_text())
        page = (FOLDER / "index.html").read_text()
    except (OSError, ValueError):
        return ()
    waiting = [key for part in parts for key in manifest if key.endswith(f"/{part}.tsx")]
    found: dict[str, None] = {}
    while waiting:
        entry = manifest.get(waiting.pop(0), {})
        name = str(entry.get("file", "")).removeprefix("static/")
        if name and name not in found:
            found[name] = None
            waiting += entry.get("imports", [])
    return tuple(name for name in found if name not in page)


@cache
def _known() -> frozenset[str]:
    """Names below "static/" of all files that can be asked for."""
    root = FOLDER / "static"
    return frozenset(path.relative_to(root).as_posix() for path in root.rglob("*") if path.suffix in COMPRESSIBLE)


@cache
def _files() -> frozenset[str]:
    """Names below "static/" of all files that are there."""
    root = FOLDER / "static"
    return frozenset(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@cache
def _compressed(name: str) -> bytes:
    return gzip.compress((FOLDER / "static" / name).read_bytes(), 6, mtime=0)


@cache
def _first() -> bytes:
    """What has to be there before Streamlit's scripts: our own, and the style sheet, without which the page would be
    drawn once in Streamlit's look and then move.

    Streamlit's rules come later, so ours are nested in one that weighs more.
    """
    script = (OURS / "head.js").read_text(encoding="utf-8")
    style = (OURS.parent / "style.css").read_text(encoding="utf-8")
    return f"<head>\n<script>\n{script}</script>\n<style>\nhtml:root {{\n{style}}}\n</style>".encode()


def _head(page: bytes, tags: bytes) -> bytes:
    """The page with what it needs first at the beginning of its head, and what it needs later asked for at its end.

    Args:
        tags: what its link shows of itself, the title last. They come before all else: who reads them stops early.
    """
    links = "".join(f'<link rel="modulepreload" crossorigin href="./static/{name}">\n' for name in needed())
    figures = [name for name in needed(FIGURES) if name not in needed()]
    links += "".join(f'<link rel="prefetch" href="./static/{name}">\n' for name in figures)
    tags, _, title = tags.partition(b"<title>")
    if title:
        page = _TITLE.sub(lambda _: b"<title>" + title, page, count=1)
    page = page.replace(b"<head>", _first().replace(b"<head>\n", b"<head>\n" + tags, 1), 1)
    return page.replace(b"</head>", links.encode() + b"</head>", 1)


class FrontEnd:
    """ASGI middleware: see the module."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._previews = Previews(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        asked = dict(scope["headers"])
        name = scope["path"].removeprefix("/static/")
        compressed = b"gzip" in asked.get(b"accept-encoding", b"")
        if scope["path"] == "/favicon.png":
            # as a page's own icon it would be one of the files of a run, which are gone when that run is given up
            icon = (OURS.parent / "favicon.png").read_bytes()
            await _send_whole(icon, [(b"content-type", b"image/png"), (b"cache-control", b"max-age=86400")], send)
        elif name in _known() and compressed and b"range" not in asked:
            await self._file(name, send)
        elif scope["path"].startswith("/static/") and name not in _files():
            # Streamlit would look for it, and then send its front page
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
        elif found := PLACE.fullmatch(scope["path"]):
            await self._previews.send_picture(found[1], scope, send)
        # who reads a link for somebody else often says of no kind that it is wanted
        elif b"text/html" in asked.get(b"accept", b"") or page_of(scope["path"]) is not None:
            # as it is: what is compressed, or what the browser has already, could not be given our head
            tags = await self._previews.tags(scope)
            plain = [(n, v) for n, v in scope["headers"] if n not in _HOW_TO_ANSWER]
            await self.app({**scope, "headers": plain}, receive, _WithHead(send, compressed=compressed, tags=tags))
        else:
            await self.app(scope, receive, send)

    async def _file(self, name: str, send: Send) -> None:
        body = await asyncio.to_thread(_compressed, name)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        headers = [
            (b"content-type", kind.encode()),
            (b"content-encoding", b"gzip"),
            (b"cache-control", FOR_A_YEAR),
            (b"vary", b"accept-encoding"),
        ]
        await _send_whole(body, headers, send)


async def _send_whole(body: bytes, headers: list[tuple[bytes, bytes]], send: Send) -> None:
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    # in parts, between which a client that does not take them is waited for: whole bodies would lie in memory,
    # one for each of its connections
    for start in range(0, len(body), PART_BYTES):
        part, end = body[start : start + PART_BYTES], start + PART_BYTES
        await send({"type": "http.response.body", "body": part, "more_body": end < len(body)})


class _WithHead:
    """Sends an answer on; a page of the app gets our part of its head."""

    def __init__(self, send: Send, *, compressed: bool, tags: bytes) -> None:
        self.send = send
        self.tags = tags
        self.compressed = compressed
        self.start: Message | None = None
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_page(message):
            self.start = message
        elif self.start is None or message["type"] != "http.response.body":
            await self.send(message)
        else:
            self.body += message.get("body", b"")
            if not message.get("more_body"):
                body = _head(self.body, self.tags)
                # its tag and date are those of Streamlit's file, which our head does not change
                stale = (b"content-length", b"etag", b"last-modified")
                headers = [(n, v) for n, v in self.start["headers"] if n.lower() not in stale]
                headers.append((b"vary", b"accept-encoding"))
                if self.compressed:
                    body = gzip.compress(body, 6, mtime=0)
                    headers.append((b"content-encoding", b"gzip"))
                headers.append((b"content-length", str(len(body)).encode()))
                await self.send({**self.start, "headers": headers})
                await self.send({"type": "http.response.body", "body": body})


def _is_page(start: Message) -> bool:
    headers = {name.lower(): value for name, value in start["headers"]}
    plain = b"content-encoding" not in headers
    return start["status"] == 200 and plain and headers.get(b"content-type", b"").startswith(b"text/html")
