"""Whatever strangers send to a public server, it keeps running and other sessions do not notice.

`HEADSHARE_SOAK=1` runs the long forms (thousands of addresses); the short forms take seconds.
"""

from __future__ import annotations

import asyncio
import random
import struct
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from email.message import Message
from urllib.parse import quote, urlencode

import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin

from bench.load import ROOT, rss, server
from bench.session import Session
from tests.event_loop import run
from tests.long import SOAK

PAGES = ("", *sorted(p.stem for p in (ROOT / "pages").glob("*.py")))
REAL = {
    "model": "meta-llama/Llama-3.1-8B",
    "context": "8192",
    "batch": "1",
    "kv": "bf16",
    "layers": "32",
    "heads": "32",
    "kv_heads": "8",
    "head_dim": "128",
    "window": "4096",
    "cmp": "google/gemma-3-27b-it",
    "run": "abc",
    "v": "1",
}
HOSTILE = (
    "", "0", "-1", "1e309", "NaN", "10" * 40, "true", "None", "[]", "{}", "../../etc/passwd", "http://127.0.0.1:1/",
    "<script>alert(1)</script>", "'; DROP TABLE runs; --", "{{7*7}}", "__import__('os').system('id')", "\x00\x01",
    "𝕏" * 50, "\u202e\u200b", "%00", "a" * 5000, "1,2,3", "9" * 400, "0x10", "１２", "8192.5", "\ud7ff",
)  # fmt: skip


@pytest.fixture(scope="module")
def live() -> Iterator[tuple[str, psutil.Process]]:
    with server() as running:
        yield running


def hostile_queries(count: int) -> Iterator[tuple[str, str]]:
    """(page, query): real addresses with one to four fields that are wrong or repeated, some renamed or cut."""
    rng = random.Random(20260101)
    for number in range(count):
        fields = [(k, v) for k, v in REAL.items() if rng.random() < 0.6]
        for _ in range(rng.randint(1, 4)):
            key = rng.choice(list(REAL))
            fields.append((key, rng.choice(HOSTILE)))
        if rng.random() < 0.2:
            fields.append((rng.choice(HOSTILE)[:40], rng.choice(HOSTILE)))
        rng.shuffle(fields)
        query = urlencode(fields, quote_via=quote, errors="replace")
        if rng.random() < 0.1:
            query = query[: rng.randint(0, len(query))]
        yield PAGES[number % len(PAGES)], query


@pytest.mark.timeout(3600 if SOAK else 300)
def test_hostile_addresses_never_raise(live: tuple[str, psutil.Process]) -> None:
    address, _ = live

    async def visit_all() -> list[str]:
        failures = []
        for page, query in hostile_queries(4000 if SOAK else 3 * len(PAGES)):
            try:
                async with Session(address, page, query) as session:
                    await session.rerun()
                    assert session.widgets or page in ("about", "accuracy", "published", "summary"), (
                        "the page drew no control"
                    )
            except Exception as error:
                failures.append(f"/{page}?{query[:300]}: {error}")
        return failures

    assert not run(visit_all())


def test_malformed_frames_close_only_their_own_session(live: tuple[str, psutil.Process]) -> None:
    address, _ = live
    rng = random.Random(3)

    async def attack(bystander: Session) -> None:
        for size in (0, 1, 7, 4096, 200_000):
            socket = await connect(
                f"ws://{address}/_stcore/stream", origin=Origin(f"http://{address}"), compression=None
            )
            try:
                await socket.send(rng.randbytes(size))
                await socket.send("text where bytes belong")
            except Exception:
                pass
            await bystander.rerun()
            await socket.close()

    async def scenario() -> None:
        async with Session(address) as bystander:
            await bystander.rerun()
            await attack(bystander)
            await bystander.rerun()

    run(scenario())


def test_broken_http_and_raw_bytes_leave_the_server_healthy(live: tuple[str, psutil.Process]) -> None:
    address, _ = live
    host, port = address.split(":")

    async def raw(data: bytes) -> None:
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        await writer.drain()
        writer.close()

    for data in (b"\x16\x03\x01" * 50, b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 70_000, struct.pack("<Q", 2**63)):
        run(raw(data))
    assert ask(address, "/_stcore/health")[0] == 200


def test_a_session_stays_on_its_page(live: tuple[str, psutil.Process]) -> None:
    """A rerun is a rerun of the page that was opened; bench/load.py and bench/latency.py depend on it."""

    async def keys(path: str) -> list[set[str]]:
        async with Session(live[0], path) as session:
            seen = []
            for _ in range(3):
                session.widgets.clear()
                await session.rerun()
                seen.append({identity.rpartition("-")[2] for identity in session.widgets})
        return seen

    first, *later = run(keys("compare"))
    assert "cmp_view" in first
    assert later == [first, first]


def test_clients_that_vanish_are_forgotten(live: tuple[str, psutil.Process]) -> None:
    address, process = live

    async def vanish(number: int) -> None:
        session = Session(address, PAGES[number % len(PAGES)])
        async with session:
            rerun = asyncio.create_task(session.rerun())
            await asyncio.sleep(0.02)
            assert session._socket is not None
            session._socket.transport.abort()
            # the aborted connection raises different errors, or none if the run was already done
            with suppress(Exception):
                await rerun

    async def bystander() -> None:
        async with Session(address) as session:
            await session.rerun()

    for number in range(200 if SOAK else 12):
        run(vanish(number))
    run(bystander())
    assert rss(process) < 3 * 2**30


def ask(
    address: str, path: str, body: bytes | Iterator[bytes] | None = None, **headers: str
) -> tuple[int, Message, bytes]:
    """(status, headers, body) of one request; a PUT if there is a body. Status 0: the connection was closed."""
    url = f"http://{address}{path}"
    request = urllib.request.Request(url, data=body, headers=headers, method="PUT" if body else "GET")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()
    except (urllib.error.URLError, ConnectionError):
        return 0, Message(), b""


def test_uploads_over_the_limit_and_to_strangers_are_refused(live: tuple[str, psutil.Process]) -> None:
    address, _ = live
    for body in (b"x" * 10, b"x" * (3 * 2**20)):
        status, _, _ = ask(address, "/_stcore/upload_file/not-a-session/not-a-file", body)
        assert status == 0 or 400 <= status < 500
    assert ask(address, "/_stcore/health")[0] == 200


def test_an_upload_to_the_own_session_may_have_one_mebibyte(live: tuple[str, psutil.Process]) -> None:
    address, _ = live
    _, headers, _ = ask(address, "/_stcore/health")
    cookie = headers["set-cookie"].partition(";")[0]
    same_site = {
        "Cookie": cookie,
        "X-Xsrftoken": cookie.partition("=")[2],
        "Content-Type": "multipart/form-data; boundary=b",
    }

    def upload(session: Session, size: int, *, tell_length: bool) -> int:
        head = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f.json"\r\n\r\n'
        body = head + b"x" * size + b"\r\n--b--\r\n"
        path = f"/_stcore/upload_file/{session.id}/{size}"
        return ask(address, path, body if tell_length else iter((body,)), **same_site)[0]

    async def scenario() -> None:
        async with Session(address, "timings") as session:
            await session.rerun()
            assert upload(session, 1_000_000, tell_length=True) == 204
            assert upload(session, 1_000_000, tell_length=False) == 204
            assert upload(session, 2**20 + 1, tell_length=True) in (0, 413)
            # without a length the server has to count; it allows a few kilobytes for the form around the file
            assert upload(session, 2**20 + 2**17, tell_length=False) in (0, 413)
            await session.rerun()

    run(scenario())


def test_answers_carry_the_security_headers(live: tuple[str, psutil.Process]) -> None:
    address, _ = live
    _, headers, _ = ask(address, "/")
    assert "frame-ancestors 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_files_of_the_host_are_not_served(live: tuple[str, psutil.Process]) -> None:
    address, _ = live
    for path in (
        "/..%2f..%2fetc/passwd",
        "/static/../../app.py",
        "/app/static/../requirements.txt",
        "/requirements.txt",
    ):
        status, _, body = ask(address, path)
        # an unknown address gets the app's first page
        assert status in (400, 403, 404) or b"<!doctype html" in body[:2000].lower(), (path, body[:200])
