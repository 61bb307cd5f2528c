"""Previews of links: title, sentence and picture of the view that an address names (Open Graph, ogp.me; Twitter's cards
use the same), and the picture itself at ``card/PAGE.png``.

The rules of ``ui.params`` read an address. Besides values that these accept, an answer repeats only the address itself,
escaped. One thread makes words and pictures, and a bounded number of them is kept. A client may ask for a limited
number per second; above that it gets the page's general words.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import re
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlencode

import streamlit
from streamlit import config

from ui import state
from ui.params import CONFIG
from ui.server.answers import refuse
from ui.server.clients import KEY
from ui.server.tabs import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from starlette.types import Scope, Send

    from attention.settings import Settings
    from ui.view_words import ViewWords
    from viz.card import Card

    T = TypeVar("T")

PLACE = re.compile(r"/card/([a-z_]{1,40})\.png")
PAGES = {"/": "explore"} | {f"/{file.stem}": file.stem for file in (Path(__file__).parents[2] / "pages").glob("*.py")}
"""Path of a page -> its key in ``ui.components.navigation``. That module is not imported here: its component can be
declared only when Streamlit's runtime exists, and this module is imported before."""
MOST_QUERY_BYTES, MOST_FIELDS, MOST_TEXTS, MOST_CHARACTERS = 16_384, 300, 32, 200
"""Limits of an address that is read: bytes in all, pairs of key and value, texts of one key, characters of a text."""
PER_S, BURST_S = 10.0, 4.0
"""A client may ask for PER_S words and pictures per second, and at once for those of BURST_S seconds."""
MOST_CLIENTS, MOST_WAITING = 1024, 16
PATIENCE_S = 1.0
"""A page waits at most this long for its words; a request for a picture has no such limit."""
KEPT_PICTURES = 128
"""Number of pictures in the cache; each takes about 20 kB."""
WIDTH, HEIGHT = 1200, 630
CACHED = b"public, max-age=3600"


def page_of(path: str) -> str | None:
    """Key of the page at a path, None if there is none."""
    return PAGES.get(path.rstrip("/") or "/")


@lru_cache(maxsize=KEPT_PICTURES)
def drawn(shown: Card) -> bytes:
    """The picture as PNG; the latest KEPT_PICTURES are kept."""
    from viz.card import draw_card

    # the font of the pages; in another version of Streamlit the file may have another name
    font = next((Path(streamlit.__file__).parent / "static/static/media").glob("SourceSansVF-Upright*"), "")
    return draw_card(shown, str(font))


def picture(words: ViewWords) -> bytes:
    """The picture of a view, PNG."""
    from viz.card import Card

    return drawn(Card(words.page, words.says, words.bars, words.heads))


@lru_cache(maxsize=512)
def read(page: str, query: bytes) -> tuple[ViewWords, str]:
    """(words of a page at an address's query, query of its picture).

    The picture's query has the keys that the words depend on, with the values that were accepted.
    """
    from ui import view_words

    found: dict[str, list[str]] = {}
    if len(query) <= MOST_QUERY_BYTES:
        try:
            found = parse_qs(query.decode("utf-8", errors="replace"), max_num_fields=MOST_FIELDS)
        except ValueError:
            found = {}
    bounded = {
        key: [text[:MOST_CHARACTERS] for text in texts[:MOST_TEXTS]]
        for key, texts in found.items()
        if key != CONFIG.key
    }
    values, _ = state.read(bounded, view_words.known(page))
    own = state.query_of(values, view_words.OWN.get(page, ()))
    return view_words.of(page, values), urlencode(own, doseq=True)


class Previews:
    """Makes the previews of links for ``ui.server.front_end``."""

    def __init__(self, settings: Settings) -> None:
        self._public = settings.public_url.rstrip("/")
        # the font library is not safe in several threads, and addresses of strangers must not keep more than one busy
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="previews")
        self._waiting = 0
        self._clients: OrderedDict[str, Bucket] = OrderedDict()

    async def tags(self, scope: Scope) -> bytes:
        """Title and tags for the head of a page; empty if the path is not a page's."""
        page, query = page_of(scope["path"]), scope.get("query_string", b"")
        if page is None:
            return b""
        work = self._made(scope, lambda: read(page, query))
        words, picture_query = read(page, b"")
        if work is not None:
            with contextlib.suppress(TimeoutError):
                words, picture_query = await asyncio.wait_for(work, PATIENCE_S)
        return self._written(self._origin(scope), scope["path"], query, page, words, picture_query)

    async def send_picture(self, page: str, scope: Scope, send: Send) -> None:
        """Answer a request for the picture of a page."""
        if page not in PAGES.values():
            await refuse(scope, send, 404, "There is no such page.")
            return
        work = self._made(scope, lambda: picture(read(page, scope.get("query_string", b""))[0]))
        if work is None:
            await refuse(scope, send, 429, "Too many pictures at once: try again in a minute.")
            return
        body = await work
        headers = [
            (b"content-type", b"image/png"),
            (b"cache-control", CACHED),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _made(self, scope: Scope, work: Callable[[], T]) -> asyncio.Future[T] | None:
        """The future of `work` in the thread; None if the client, or all clients together, ask for too much."""
        client = str(scope.get(KEY, ""))
        bucket = self._clients.pop(client, None) or Bucket(PER_S, BURST_S)
        self._clients[client] = bucket
        if len(self._clients) > MOST_CLIENTS:
            self._clients.popitem(last=False)
        if self._waiting >= MOST_WAITING or not bucket.may_take(1):
            return None
        self._waiting += 1
        made = asyncio.get_running_loop().run_in_executor(self._thread, work)
        made.add_done_callback(self._ended)
        return made

    def _ended(self, _: object) -> None:
        self._waiting -= 1

    def _origin(self, scope: Scope) -> str:
        """The address under which visitors reach the server: the one that the operator states, otherwise the request's
        host if the operator allows it, otherwise "", because a stranger may write any host into a request."""
        if self._public:
            return self._public
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
        named = {name.strip().lower() for name in config.get_option("server.allowedHosts") or ()}
        if re.fullmatch(r"[a-z0-9.-]+(:\d{1,5})?", host) and host.partition(":")[0] in named:
            return f"{scope.get('scheme', 'http')}://{host}"
        return ""

    @staticmethod
    def _written(origin: str, path: str, query: bytes, page: str, words: ViewWords, picture_query: str) -> bytes:
        image = f"{origin}/card/{page}.png" if origin else f"./card/{page}.png"
        named = [
            ("og:site_name", "Headshare"),
            ("og:type", "website"),
            ("og:title", words.says),
            ("og:description", words.about),
            ("og:image", f"{image}?{picture_query}"),
            ("og:image:type", "image/png"),
            ("og:image:width", str(WIDTH)),
            ("og:image:height", str(HEIGHT)),
            ("og:image:alt", f"{words.page}: {words.says}"),
        ]
        if origin and len(query) <= MOST_QUERY_BYTES:
            asked = quote(query, safe="=&%+,~/:;@!$'()*?-._")
            named.append(("og:url", f"{origin}{quote(path)}{'?' if asked else ''}{asked}"))
        described = [("description", f"{words.says}. {words.about}"), ("twitter:card", "summary_large_image")]
        lines = [f'<meta property="{name}" content="{html.escape(text)}">' for name, text in named]
        lines += [f'<meta name="{name}" content="{html.escape(text)}">' for name, text in described]
        return "\n".join([*lines, f"<title>{html.escape(words.says)} · Headshare</title>"]).encode()
