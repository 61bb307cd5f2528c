"""The gate around the app, part by part; tests/faults tests the whole of it on a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from attention.settings import Settings
from tests.event_loop import run
from ui.server.book import Book
from ui.server.clients import (
    HEADER,
    KEY,
    Clients,
    client_of,
    normal,
)
from ui.server.connections import Connections
from ui.server.private import Private
from ui.server.tabs import Bucket, Tabs
from ui.server.uploads import Uploads


@pytest.mark.parametrize(
    ("text", "counted"),
    [("203.0.113.7", "203.0.113.7"), (" 203.0.113.7:4711", "203.0.113.7"), ("::ffff:203.0.113.7", "203.0.113.7"),
     ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("[2001:db8:1:2::9]:443", "2001:db8:1:2::/64"),
     ("fe80::1%eth0", "fe80::/64"), ('"[2001:db8:1:2::9]"', "2001:db8:1:2::/64"), ("unknown", None), ("", None),
     ("203.0.113.7; DROP", None), ("203.0.113", None)],
)  # fmt: skip
def test_addresses_are_counted_alike_however_they_are_written(text: str, counted: str | None) -> None:
    assert normal(text) == counted


def scope(kind: str = "http", peer: str = "10.0.0.1", path: str = "/", method: str = "GET", **headers: str) -> Any:
    written = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": kind, "path": path, "method": method, "headers": written, "client": ("6.6.6.6", 1),
            "state": {"peer": peer}, "extensions": {"websocket.http.response": {}}}  # fmt: skip


def test_a_header_counts_only_if_the_setting_names_it() -> None:
    """uvicorn accepts the header from a proxy on the same machine, and whoever calls that proxy may have written it."""
    forged = scope(x_forwarded_for="198.51.100.1, 203.0.113.7")
    assert client_of(forged, "") == "10.0.0.1"
    assert client_of(forged, "X-Forwarded-For") == "203.0.113.7"
    assert client_of(forged, "X-Forwarded-For", proxies=2) == "198.51.100.1"
    assert client_of(forged, "X-Forwarded-For", proxies=3) == "10.0.0.1"
    assert client_of(scope(x_forwarded_for="junk"), "X-Forwarded-For") == "10.0.0.1"
    assert client_of(scope(), "X-Real-IP") == "10.0.0.1"


class Inner:
    """An app that notes what reached it."""

    def __init__(self, body: bytes = b"theirs") -> None:
        self.scopes: list[Any] = []
        self.body = body

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "http":
            while (await receive()).get("more_body"):
                pass
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": self.body})


def ask(app: Any, scope: Any, receive: Any = None) -> tuple[int, str]:
    sent: list[Any] = []

    async def nothing() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    run(app(scope, receive or nothing, send))
    return (sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:]).decode()) if sent else (0, "")


def test_pages_learn_the_client_from_a_header_that_nobody_else_knows() -> None:
    inner = Inner()
    ask(Clients(inner, Settings()), scope("websocket", headshare_client="forged"))
    headers = inner.scopes[0]["headers"]
    assert [value for name, value in headers if name == HEADER] == [b"10.0.0.1"]
    assert inner.scopes[0][KEY] == "10.0.0.1"


def test_metrics_are_for_who_has_the_token() -> None:
    for path in ("/_stcore/metrics", "/base/_stcore/metrics/", "/_stcore/script-health-check"):
        assert ask(Private(Inner(), Settings()), scope(path=path))[0] == 403
        assert ask(Private(Inner(), Settings(metrics_token="t")), scope(path=path, authorization="Bearer x"))[0] == 403
        assert ask(Private(Inner(), Settings(metrics_token="t")), scope(path=path, authorization="Bearer t"))[0] == 200
    assert ask(Private(Inner(), Settings()), scope(path="/_stcore/metrics", authorization="Bearer "))[0] == 403
    assert ask(Private(Inner(), Settings()), scope(path="/_stcore/health"))[0] == 200


def test_a_tab_too_many_is_refused_in_words() -> None:
    book = Book()
    tabs = Tabs(Inner(), Settings(client_sessions=2, max_sessions=3), book)
    asked = {**scope("websocket", path="/_stcore/stream"), KEY: "a"}
    book.open["a"] = 2
    assert ask(tabs, asked) == (503, "You have 2 tabs of this site open already: close one first.\n")
    book.open["b"] = 1
    assert ask(tabs, {**asked, KEY: "c"})[0] == 503
    book.open.clear()
    assert ask(tabs, asked) == (0, "")
    assert not book.open


def upload(size: int | None, **more: Any) -> Any:
    told = {} if size is None else {"content_length": str(size)}
    return {**scope(method="PUT", path="/_stcore/upload_file/s/f", **told), KEY: "a", **more}


def test_uploads_are_counted_while_they_are_under_way() -> None:
    book = Book()
    most = Settings(session_upload_mb=2, client_upload_mb=3, max_upload_mb=4)
    uploads = Uploads(Inner(), most, book)
    assert ask(uploads, upload(2**20))[0] == 200
    assert book.kept_in_all() == 0
    book.arriving("s", 2 * 2**20 - 5000)
    status, words = ask(uploads, upload(6000))
    assert (status, words) == (413, "This tab keeps 2 MiB of files already: remove one, or reload the page.\n")
    # an upload that does not state its length counts as the longest that is allowed
    assert ask(uploads, upload(None))[0] == 413
    assert ask(uploads, upload(4000))[0] == 200
    book.client_of = {"s": "a", "t": "a"}
    book.arriving("s", -(2 * 2**20 - 5000))
    book.arriving("t", 3 * 2**20 - 5000)
    assert ask(uploads, upload(6000)) == (413, "Your tabs keep 3 MiB of files already: close one of them first.\n")
    book.client_of = {"t": "b"}
    book.arriving("u", 2**20)
    assert "as many files of visitors as it can" in ask(uploads, upload(6000))[1]


def test_an_upload_that_dawdles_is_ended_in_words() -> None:
    async def never() -> Any:
        await asyncio.sleep(3600)

    book = Book()
    uploads = Uploads(Inner(), Settings(upload_seconds=0), book)
    assert ask(uploads, upload(100), never) == (408, "The file did not arrive within 0 seconds.\n")
    assert book.kept_in_all() == 0


def test_who_speaks_too_fast_waits() -> None:
    bucket = Bucket(per_s=10, burst_s=1)
    assert [bucket.take(1) for _ in range(9)] == [0.0] * 9
    waits = [bucket.take(1) for _ in range(101)]
    assert 5 < waits[-1] <= 10


class Transport:
    def __init__(self) -> None:
        self.closed = False

    def is_closing(self) -> bool:
        return self.closed


def test_connections_are_counted_by_address_and_in_all() -> None:
    connections = Connections(Settings(client_connections=2), most=3)
    held = [Transport(), Transport(), Transport()]
    assert connections.take(held[0], "a")
    assert connections.take(held[1], "a")
    assert not connections.take(Transport(), "a")
    assert connections.take(held[2], "b")
    assert not connections.take(Transport(), "c")
    held[0].closed = True
    assert connections.take(Transport(), "c")
    behind_a_proxy = Connections(Settings(client_connections=2, client_header="X-Real-IP"), most=30)
    assert all(behind_a_proxy.take(Transport(), "proxy") for _ in range(30))
