"""Streamlit's scripts as we send them: the same bytes, but compressed. A page asks early for those it will need."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from attention.settings import Settings
from tests.event_loop import run
from tests.server import ROOT
from ui.server import front_end

PAGE = b"<html><head><title>x</title></head><body></body></html>"


def ask(
    path: str,
    *,
    method: str = "GET",
    answer: bytes = b"theirs",
    kind: bytes = b"text/plain",
    tags: Mapping[str, str] = MappingProxyType({}),
    passed_on: dict[bytes, bytes] | None = None,
    **headers: str,
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of an answer. What we do not answer ourselves goes to an app that says `answer`."""
    extra = {b"content-encoding": headers.pop("encoded").encode()} if "encoded" in headers else {}
    status = int(headers.pop("status", "200"))
    sent: list[Any] = []
    passed_on = {} if passed_on is None else passed_on

    tag = {name.encode(): value.encode() for name, value in tags.items()}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed_on.update(dict(scope["headers"]))
        start = {b"content-type": kind, b"content-length": str(len(answer)).encode(), **extra, **tag}
        await send({"type": "http.response.start", "status": status, "headers": list(start.items())})
        half = len(answer) // 2
        await send({"type": "http.response.body", "body": answer[:half], "more_body": True})
        await send({"type": "http.response.body", "body": answer[half:]})

    async def receive() -> Any:
        raise AssertionError("a request without a body is not read")

    async def send(message: Any) -> None:
        sent.append(message)

    asked = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: Any = {"type": "http", "method": method, "path": path, "headers": asked}
    run(front_end.FrontEnd(app, Settings())(scope, receive, send))
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), body


def test_every_part_we_draw_is_known_to_this_version() -> None:
    manifest = json.loads((front_end.FOLDER / "manifest.json").read_text())
    for part in (*front_end.PARTS, *front_end.FIGURES):
        files = [entry["file"] for key, entry in manifest.items() if key.endswith(f"/{part}.tsx")]
        assert files, f"{part} is no part of this Streamlit"
        assert files[0].removeprefix("static/") in front_end.needed((part,))
    page = (front_end.FOLDER / "index.html").read_text()
    assert not [name for name in front_end.needed() if name in page]


def test_a_script_comes_compressed_and_whole() -> None:
    name = next(name for name in front_end.needed(front_end.FIGURES) if "PlotlyChart" in name)
    status, headers, body = ask(f"/static/{name}", accept_encoding="gzip, deflate, br")
    original = (front_end.FOLDER / "static" / name).read_bytes()
    assert status == 200
    assert gzip.decompress(body) == original
    assert int(headers[b"content-length"]) == len(body) < len(original) / 2
    assert headers[b"content-encoding"] == b"gzip"
    assert headers[b"vary"] == b"accept-encoding"
    assert headers[b"content-type"].split(b";")[0] in (b"text/javascript", b"application/javascript")
    assert b"immutable" in headers[b"cache-control"]


def test_the_icon_is_ours() -> None:
    status, headers, body = ask("/favicon.png")
    assert status == 200
    assert headers[b"content-type"] == b"image/png"
    assert body == (ROOT / "ui" / "favicon.png").read_bytes()


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/static/NAME", {}),
        ("/static/NAME", {"accept_encoding": "br"}),
        ("/static/NAME", {"accept_encoding": "gzip", "range": "bytes=0-9"}),
        ("/static/NAME", {"accept_encoding": "gzip", "method": "HEAD"}),
        ("/app/static/NAME", {"accept_encoding": "gzip"}),
        ("/NAME", {"accept_encoding": "gzip"}),
    ],
)
def test_all_else_is_streamlits_to_answer(path: str, options: dict[str, Any]) -> None:
    status, headers, body = ask(path.replace("NAME", front_end.needed()[0]), **options)
    assert (status, body) == (200, b"theirs")
    assert b"content-encoding" not in headers


@pytest.mark.parametrize("path", ["/static/js/none.js", "/static/../index.html", "/static//etc/passwd", "/static/js"])
@pytest.mark.parametrize("options", [{}, {"accept_encoding": "gzip", "accept": "text/html"}])
def test_a_file_that_is_not_there_costs_nothing(path: str, options: dict[str, Any]) -> None:
    """Streamlit would answer each with its front page, in 1.7 ms: enough of them slow everybody's pages."""
    status, headers, body = ask(path, **options)
    assert (status, headers, body) == (404, {b"content-length": b"0"}, b"")


HTML: dict[str, Any] = {"answer": PAGE, "kind": b"text/html; charset=utf-8", "accept": "text/html,*/*;q=0.8"}


def test_a_page_asks_early_for_what_it_needs() -> None:
    _, headers, body = ask("/kv_cache", **HTML)
    head, _, rest = body.partition(b"</head>")
    assert rest == b"<body></body></html>"
    assert head.count(b"modulepreload") == len(front_end.needed()) > 20
    for name in front_end.needed():
        assert f'href="./static/{name}"'.encode() in head
    # what would keep the page from drawing is fetched, but not read yet
    (figures,) = (line for line in head.decode().splitlines() if "/PlotlyChart" in line)
    assert figures.startswith('<link rel="prefetch"')
    assert int(headers[b"content-length"]) == len(body)


def test_a_page_begins_with_our_script_and_style() -> None:
    head = ask("/kv_cache", **HTML)[2].partition(b"<title>")[0].decode()
    assert (front_end.OURS / "head.js").read_text() in head
    assert (front_end.OURS.parent / "style.css").read_text() in head
    assert "</script" not in (front_end.OURS / "head.js").read_text()


def test_a_page_is_ours_to_compress_and_never_taken_for_one_that_the_browser_has() -> None:
    """Browsers ask for a compressed page, and Streamlit's has the same tag whatever our ``<head>`` contains."""
    passed_on: dict[bytes, bytes] = {}
    _, headers, body = ask(
        "/", **HTML, accept_encoding="gzip, br", if_none_match='"tag"', tags={"etag": '"tag"'}, passed_on=passed_on
    )
    assert passed_on == {b"accept": HTML["accept"].encode()}
    assert headers[b"content-encoding"] == b"gzip"
    assert int(headers[b"content-length"]) == len(body)
    assert b"etag" not in headers
    assert b"modulepreload" in gzip.decompress(body)


@pytest.mark.parametrize(
    "options",
    [{"kind": b"application/json"}, {"kind": b"text/html", "encoded": "gzip"}, {"kind": b"text/html", "status": "404"}],
)
def test_other_answers_stay_as_they_are(options: dict[str, Any]) -> None:
    _, headers, body = ask("/x", answer=PAGE, accept="text/html", **options)
    assert body == PAGE
    assert int(headers[b"content-length"]) == len(PAGE)


def test_a_version_that_names_its_parts_otherwise_is_served_without_haste(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(front_end, "FOLDER", tmp_path)
    front_end.needed.cache_clear()
    try:
        assert front_end.needed() == ()
        (tmp_path / "index.html").write_text("<head></head>")
        (tmp_path / "manifest.json").write_text('{"a/Other.tsx": {"file": "static/js/other.js"}}')
        front_end.needed.cache_clear()
        assert front_end.needed() == ()
        assert b"modulepreload" not in ask("/", **HTML)[2]
    finally:
        front_end.needed.cache_clear()
