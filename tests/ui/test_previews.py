"""The preview of a link: the page's own numbers, nothing of the address unescaped, and a bounded cost."""

from __future__ import annotations

import io
from collections import Counter
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from PIL import Image
from streamlit import config

from attention.settings import Settings, load
from tests.event_loop import run
from tests.faults.test_strangers import HOSTILE, hostile_queries
from tests.pages.test_pages import open_page
from ui import view_words
from ui.components.navigation import NAVIGATION, ROOT
from ui.controls import pack
from ui.server import front_end, previews

PAGE = b"<!DOCTYPE html>\n<html>\n<head>\n<title>Streamlit</title></head><body></body></html>"
LLAMA = "model=meta-llama/Llama-3.1-8B&context=131072"
FILES = {key: file for _, entries in NAVIGATION for key, file, _ in entries if (ROOT / file).exists()}


async def streamlit(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": PAGE})


def answers(
    *asked: str | bytes, settings: Settings | None = None, host: str = "site.example"
) -> list[tuple[int, dict[bytes, bytes], bytes]]:
    """Status, headers and body for each address; one server is asked for them one after the other."""
    found = []

    async def all_of_them() -> None:
        served = front_end.FrontEnd(streamlit, settings or Settings())
        for address in asked:
            path, _, query = (address.encode() if isinstance(address, str) else address).partition(b"?")
            sent: list[Any] = []

            async def send(message: Any, sent: list[Any] = sent) -> None:
                sent.append(message)

            async def receive() -> Any:
                raise AssertionError("a preview reads no body")

            scope: Any = {
                "type": "http", "method": "GET", "scheme": "https", "path": path.decode(), "query_string": query,
                "headers": [(b"host", host.encode()), (b"accept", b"*/*")],
            }  # fmt: skip
            await served(scope, receive, send)
            body = b"".join(message.get("body", b"") for message in sent[1:])
            found.append((sent[0]["status"], dict(sent[0]["headers"]), body))

    run(all_of_them())
    return found


class Head(HTMLParser):
    """The tags of a page, as a program that makes previews of links reads them."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: dict[str, str] = {}
        self.kinds: list[str] = []
        self.title = ""
        self._in_title = False
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.kinds.append(tag)
        self._in_title = tag == "title"
        named = dict(attrs)
        if tag == "meta":
            self.tags[str(named.get("property") or named.get("name"))] = str(named["content"])

    def handle_data(self, data: str) -> None:
        self.title += data if self._in_title else ""

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False


def head(address: str | bytes, **options: Any) -> Head:
    ((status, _, body),) = answers(address, **options)
    assert status == 200
    return Head(body)


def test_an_address_answers_with_the_finding_of_its_view() -> None:
    found = head(f"/kv_cache?{LLAMA}")
    assert found.tags["og:title"] == "Llama 3.1 8B at 128k tokens: 16.0 GiB, 4 times smaller than with MHA"
    assert found.title == f"{found.tags['og:title']} · Headshare"
    assert found.tags["twitter:card"] == "summary_large_image"
    # the number is the page's own
    at = open_page("pages/kv_cache.py", model="meta-llama/Llama-3.1-8B", context="131072")
    assert "16.0 GiB" in [metric.value for metric in at.metric]


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (f"/?{LLAMA}&e_kv=1", "Llama 3.1 8B as MQA at 128k tokens: 2.00 GiB, 32 times smaller than with MHA"),
        (f"/heads?{LLAMA}", "Llama 3.1 8B: 32 query heads, 8 K/V heads (GQA-8)"),
        ("/with_cache?context=7", "Llama 3.1 8B, 7 tokens: 7 passes through the model with a cache, 28 without"),
        (
            "/other_ways?model=google/gemma-3-27b-pt&context=131072",
            "Gemma 3 27B at 128k tokens: from 124 GiB as plain MHA to 10.4 GiB",
        ),
        (
            "/compare?cmp=config&cmp=meta-llama/Llama-3.1-8B&cmp=meta-llama/Llama-3.1-8B~fp8",
            "Llama 3.1 8B at 8k tokens: 1.00 GiB, Llama 3.1 8B · fp8: 512 MiB",
        ),
        ("/kv_cache?model=custom&heads=15&kv_heads=5", "Typed sizes at 8k tokens: 640 MiB, 3 times smaller"),
        ("/kv_cache?model=tiiuae/falcon-mamba-7b", "Falcon Mamba 7B at 8k tokens: 36.0 MiB, one fixed size"),
        ("/code", "The few lines in which the three classes differ"),
    ],
)  # fmt: skip
def test_each_page_says_what_it_is_about(address: str, says: str) -> None:
    assert head(address).tags["og:title"].startswith(says)


def test_a_verdict_is_that_of_what_fits() -> None:
    query = "model=meta-llama/Llama-3.1-70B&context=16384&batch=8&f_acc=l40s&f_count=4"
    at = open_page("pages/fit.py", **{key: value for key, (value,) in parse_qs(query).items()})
    (verdict,) = (text.value for text in at.markdown if "Does not fit" in text.value)
    said = head(f"/fit?{query}").tags["og:title"]
    assert said.rpartition(": ")[2].removesuffix(" too much on each") in verdict
    assert "too much on each" in said


def test_words_read_the_keys_that_pages_declare() -> None:
    for page, own in view_words.OWN.items():
        at = open_page(FILES[page])
        declared = {param.key: param for param in at.session_state["_headshare"]["params"][page]}
        for param in own:
            assert param.default == declared[param.key].default, param.key
            if page != "compare":
                assert param.accepted == declared[param.key].accepted, param.key
    assert {f"/{'' if key == 'explore' else key}": key for key in FILES} == previews.PAGES


def test_nothing_of_an_address_gets_out_of_its_quotes() -> None:
    plain = head("/kv_cache")
    asked = [f"/{page}?{query}".encode("utf-8", "replace") for page, query in hostile_queries(60)]
    asked += [f"/kv_cache?model={text}&{text}=1".encode("utf-8", "replace") for text in HOSTILE]
    asked += [b'/kv_cache?"><script>alert(1)</script>', b"/kv_cache?\xff\xfe%ff=%", b"/kv_cache?" + b"&" * 9000]
    settings = load({"HEADSHARE_PUBLIC_URL": "https://site.example/app/"})
    for address, (status, _, body) in zip(asked, answers(*asked, settings=settings), strict=True):
        assert status == 200
        found = Head(body)
        assert found.kinds.count("script") == plain.kinds.count("script"), address
        assert found.kinds.count("title") == 1
        assert found.tags.keys() - {"og:url"} == plain.tags.keys(), address
        assert found.tags["og:image"].startswith("https://site.example/app/card/")


def test_long_addresses_and_pasted_configurations_are_not_read() -> None:
    general = head("/kv_cache?model=config").tags["og:title"]
    packed = pack('{"model_type": "llama"}')
    pasted = head(
        f"/kv_cache?model=config&config={packed}", settings=load({"HEADSHARE_PUBLIC_URL": "http://a.example"})
    )
    assert pasted.tags["og:title"] == general == "What a model's cache of keys and values needs, byte for byte"
    assert "config=" not in pasted.tags["og:image"]
    # whoever follows the link gets that configuration
    assert pasted.tags["og:url"].endswith(f"config={packed}")
    long = head(f"/kv_cache?{LLAMA}&x={'a' * previews.MOST_QUERY_BYTES}")
    assert "8k tokens" in long.tags["og:title"]
    many = urlencode([("cmp", f"nobody/model-{i}") for i in range(250)])
    assert "Llama 2 7B" in head(f"/compare?{many}").tags["og:title"]


@pytest.fixture
def allowed_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = config.get_option
    names = ["Named.example", "*.wild.example"]
    monkeypatch.setattr(config, "get_option", lambda key: names if key == "server.allowedHosts" else before(key))


@pytest.mark.usefixtures("allowed_hosts")
@pytest.mark.parametrize(
    ("host", "origin"),
    [("named.example:444", "https://named.example:444"), ("evil.example", ""), ("a.wild.example", ""), ('n"><b', "")],
)
def test_a_host_is_believed_only_if_the_operator_named_it(host: str, origin: str) -> None:
    found = head(f"/kv_cache?{LLAMA}", host=host)
    image = urlsplit(found.tags["og:image"])
    assert f"{image.scheme}://{image.netloc}" == (origin or "://")
    assert found.tags.get("og:url", "") == (f"{origin}/kv_cache?{LLAMA}" if origin else "")


def test_the_picture_is_of_the_view() -> None:
    query = urlsplit(head(f"/kv_cache?{LLAMA}&junk=1").tags["og:image"]).query
    (status, headers, body), (_, _, again), (_, _, other) = answers(
        f"/card/kv_cache.png?{query}", f"/card/kv_cache.png?{LLAMA}", "/card/compare.png"
    )
    assert status == 200
    assert headers[b"content-type"] == b"image/png"
    assert int(headers[b"content-length"]) == len(body) < 60_000
    picture = Image.open(io.BytesIO(body))
    assert (picture.format, picture.size) == ("PNG", (previews.WIDTH, previews.HEIGHT))
    assert body == again != other
    # bars in the colours of the three ways to share, the longest MHA's
    channels = [list(picture.convert("RGB").getchannel(name).tobytes()) for name in "RGB"]
    pixels = Counter(zip(*channels, strict=True))

    def area(*like: int) -> int:
        return sum(n for color, n in pixels.items() if max(map(abs, map(int.__sub__, color, like))) < 12)

    assert area(0x8A, 0x94, 0x9E) > area(0, 0x72, 0xB2) > area(0xD5, 0x5E, 0) > 500


def test_every_page_has_a_picture() -> None:
    found = answers(*(f"/card/{page}.png" for page in ("code", "why")), "/card/nobody.png", "/card/../x.png")
    assert [status for status, _, _ in found] == [200, 200, 404, 200]
    assert found[3][2] == PAGE  # not the address of a picture, so the app answers


def test_who_asks_for_too_many_is_refused_in_words_and_still_gets_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "PER_S", 1e-9)
    monkeypatch.setattr(previews, "BURST_S", 3e9)
    found = answers(*[f"/card/kv_cache.png?context={n}" for n in (1, 2, 3, 4)], f"/kv_cache?{LLAMA}")
    assert [status for status, _, _ in found] == [200, 200, 200, 429, 200]
    assert b"try again" in found[3][2]
    assert "8k tokens" in Head(found[4][2]).tags["og:title"]
    assert previews.drawn.cache_info().currsize <= previews.KEPT_PICTURES


def test_clients_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three clients a fourth pushes out the one that asked longest ago, which then may ask anew."""
    monkeypatch.setattr(previews, "MOST_CLIENTS", 3)
    monkeypatch.setattr(previews, "PER_S", 1e-9)
    monkeypatch.setattr(previews, "BURST_S", 1e9)

    async def answered(*clients: int) -> list[bool]:
        kept = previews.Previews(Settings())
        asked = {"type": "http", "path": "/kv_cache", "query_string": f"{LLAMA}&context=1000".encode(), "headers": []}
        tags = [await kept.tags({**asked, "headshare.client": f"10.0.0.{n}"}) for n in clients]
        return ["1,000 tokens" in Head(text).tags["og:title"] for text in tags]

    assert run(answered(0, 0, 1, 2, 0, 3, 1, 0)) == [True, False, True, True, False, True, True, False]
