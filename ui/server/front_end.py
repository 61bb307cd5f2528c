"""Middleware that sends Streamlit's own scripts faster, with our head, icon and previews of links; see ``serve.py``.

Scripts are compressed and kept in memory. The scripts that every page needs are requested while the page is still
loading, not one after another when its content has arrived. The icon in the browser's tab is ours, and so are the
previews of links (``previews``). All other requests go on to Streamlit.
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
"""Parts of Streamlit's front end that our pages draw, by their names in its manifest."""
FIGURES = ("PlotlyChart/PlotlyChart",)
"""Fetched early too, but the browser parses them only for a figure: 4.7 MB, and nothing is drawn meanwhile."""
COMPRESSIBLE = (".js", ".css", ".svg", ".json")
PART_BYTES = 2**16
_HOW_TO_ANSWER = (b"accept-encoding", b"if-none-match", b"if-modified-since")
_TITLE = re.compile(rb"<title>.*?</title>", re.DOTALL)
FOR_A_YEAR = b"public, immutable, max-age=31536000"
"""Browsers may keep a script for a year, because its name contains a hash of its content."""


@cache
def needed(parts: tuple[str, ...] = PARTS) -> tuple[str, ...]:
    """Names below "static/" of the scripts of `parts`, without those that Streamlit's page requests itself.

    Another version of Streamlit may have other names for its parts. A part that is not found loads later, as usual.
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
    """Names below "static/" of all files that are sent compressed."""
    root = FOLDER / "static"
    return frozenset(path.relative_to(root).as_posix() for path in root.rglob("*") if path.suffix in COMPRESSIBLE)


@cache
def _files() -> frozenset[str]:
    """Names below "static/" of all files that exist."""
    root = FOLDER / "static"
    return frozenset(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@cache
def _compressed(name: str) -> bytes:
    return gzip.compress((FOLDER / "static" / name).read_bytes(), 6, mtime=0)


@cache
def _first() -> bytes:
    """The beginning of the head: our script and our style sheet, before Streamlit's scripts.

    Without the style sheet the page would first be drawn in Streamlit's look, and then move. Streamlit's rules come
    later, so ours are nested in a rule with a higher specificity.
    """
    script = (OURS / "head.js").read_text(encoding="utf-8")
    style = (OURS.parent / "style.css").read_text(encoding="utf-8")
    return f"<head>\n<script>\n{script}</script>\n<style>\nhtml:root {{\n{style}}}\n</style>".encode()


def _head(page: bytes, tags: bytes) -> bytes:
    """The page with our script and style at the beginning of its head, and links that preload scripts at the end.

    Args:
        tags: tags for the preview of a link, the title last. They come first, because a program that makes previews
            reads only the beginning of a page.
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
    """The ASGI middleware that this module describes."""

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
            # set by Streamlit, the icon would be a file of one run, and Streamlit deletes it when that run is given up
            icon = (OURS.parent / "favicon.png").read_bytes()
            await _send_whole(icon, [(b"content-type", b"image/png"), (b"cache-control", b"max-age=86400")], send)
        elif name in _known() and compressed and b"range" not in asked:
            await self._file(name, send)
        elif scope["path"].startswith("/static/") and name not in _files():
            # Streamlit would search for the file and then send its front page
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
        elif found := PLACE.fullmatch(scope["path"]):
            await self._previews.send_picture(found[1], scope, send)
        # a program that makes previews of links often sends no Accept header
        elif b"text/html" in asked.get(b"accept", b"") or page_of(scope["path"]) is not None:
            # ask for the plain page: our head cannot be put into a compressed answer or a "not modified"
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
    # send in parts and wait between them for a slow client: otherwise a whole body would stay in memory for each of
    # its connections
    for start in range(0, len(body), PART_BYTES):
        part, end = body[start : start + PART_BYTES], start + PART_BYTES
        await send({"type": "http.response.body", "body": part, "more_body": end < len(body)})


class _WithHead:
    """Passes an answer on; a page of the app gets our part of the head."""

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
                # ETag and date belong to Streamlit's file and would not change with our head
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
