"""Pages on paper, and pages inside another page."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pypdfium2
import pytest
from playwright.sync_api import Page, PdfMargins, expect

from tests.browser.conftest import Server, visit
from tests.browser.looks import at_rest, watch_console
from tests.long import short

GEMMA = "model=google/gemma-3-27b-pt&context=8192"


def printed(page: Page, path: Path) -> pypdfium2.PdfDocument:
    """The page as the browser prints it on A4, with backgrounds."""
    margin: PdfMargins = {"top": "1cm", "bottom": "1cm", "left": "1cm", "right": "1cm"}
    page.pdf(path=path, format="A4", margin=margin, print_background=True)
    return pypdfium2.PdfDocument(path)


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """A new visitor for each test."""
    return new_page()


@pytest.mark.parametrize("scheme", short(["light", "dark"], ["dark"]))
def test_paper_has_it_all_in_black_on_white(
    app: str, new_page: Callable[..., Page], tmp_path: Path, scheme: str
) -> None:
    page = new_page(color_scheme=scheme)
    visit(page, f"{app}/kv_cache?{GEMMA}")
    expect(page.locator(".stPlotlyChart .main-svg").first).to_be_visible()
    at_rest(page)
    document = printed(page, tmp_path / "page.pdf")
    text = "\n".join(sheet.get_textpage().get_text_range() for sheet in document)
    # all 62 layers, 52 of them windowed, although the screen shows only a part of the table; blanks are removed,
    # because the PDF reader splits some rows into letters
    whole = re.sub(r"\s", "", text)
    layers = [int(n) for n in re.findall(r"(?<=[a-zB])(\d+)(?:sliding|full)32", whole)]
    assert layers == list(range(62))
    assert "Gemma 3 27B" in text or "1.03 GiB" in text
    # what it shows, where it is from, when
    assert "Gemma3 27B at 8k tokens: 1.03 GiB, 2 times smaller than with MHA".replace(" ", "") in whole
    assert f"{app}/kv_cache?v=1&model=" in whole
    assert f"context=8192&batch=1&kv=bf16·{date.today():%-d%B%Y}" in whole
    # the right end of the figure's axis, and the names at its lines' ends
    for word in ("64k", "as MHA", "sliding window"):
        assert word.replace(" ", "") in whole, word
    first = document[0].render(scale=1).to_pil().convert("L")
    corners = [first.getpixel(at) for at in ((40, 300), (first.width - 40, 300), (first.width - 40, 790))]
    assert min(corners) > 245, corners
    assert first.getextrema()[0] < 90
    # afterwards the screen is as before
    expect(page.locator(".main-svg[viewBox]")).to_have_count(0)


class Host(BaseHTTPRequestHandler):
    """Another site, which shows in a frame the page that its address names."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(f'<iframe src="{self.path[1:]}" width="900" height="620"></iframe>'.encode())

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield f"http://localhost:{site.server_port}"
        site.shutdown()


def test_another_site_shows_what_it_is_of_and_a_way_back(
    cold_server: Callable[..., Server], page: Page, elsewhere: str
) -> None:
    server = cold_server(HEADSHARE_FRAME_ANCESTORS=f"'self' {elsewhere}")
    said = watch_console(page)
    page.goto(f"{elsewhere}/{server.url}/kv_cache?{GEMMA}&batch=3&embed=true")
    inside = page.frame_locator("iframe")
    expect(inside.get_by_role("heading", name="KV cache")).to_be_visible()
    expect(inside.get_by_text("Gemma 3 27B · 8k tokens · 3 sequences · bf16 · ")).to_be_visible()
    expect(inside.locator(".stPlotlyChart .main-svg").first).to_be_visible()
    expect(inside.locator(".st-key-model")).to_be_hidden()
    back = inside.get_by_role("link", name="Open in Headshare")
    with page.context.expect_page() as opened:
        back.click()
    whole = opened.value
    expect(whole.locator(".st-key-model input")).to_have_value("Gemma 3 27B")
    assert "embed" not in whole.url
    assert said == []


def test_a_site_that_is_not_named_is_refused(app: str, page: Page, elsewhere: str) -> None:
    said = watch_console(page)
    page.goto(f"{elsewhere}/{app}/kv_cache?embed=true")
    page.wait_for_event("console", lambda _: any("frame-ancestors" in line for line in said)) if not said else None
    assert any("frame-ancestors" in line for line in said), said
