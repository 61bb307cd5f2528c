"""A real server and a real Chromium.

``app`` is the address of a server that all tests of a session share. ``cold_server`` starts a fresh one, whose first
request comes from the test. Both listen on a free port of the loopback interface and keep their data in a temporary
folder. If a page, a fragment or a callback raises, the server's log says so; it is read at the end of every test.

``page`` is one tab that all tests use one after another. Addresses open in it as Back and Forward open them; a new tab
takes five times as long, because it reads Streamlit's scripts. The address decides everything that the tab shows. A
test that starts a run, uploads a file or listens to the tab's events takes its own tab with ``new_page()``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, ViewportSize, WebSocket, expect
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from tests.server import PATIENCE_MS, Server

SIZE: ViewportSize = {"width": 1280, "height": 800}
READY = "[data-testid=stApp][data-test-script-state=notRunning]"

expect.set_options(timeout=PATIENCE_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@pytest.fixture
def app(shared_server: Server) -> Iterator[str]:
    """Address of the shared server; at the end of the test its log must have no error."""
    yield shared_server.url
    assert not (said := shared_server.raised()), f"the server's log:\n{said}"


@pytest.fixture
def cold_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """``cold_server(**environment)`` starts a server that has answered only requests for its health."""
    started: list[Server] = []

    def start(**environment: str) -> Server:
        started.append(Server(tmp_path / f"cold-{len(started)}", **environment))
        return started[-1]

    yield start
    said = "".join(server.raised() for server in started)
    for server in started:
        server.close()
    assert not said, f"the server's log:\n{said}"


@pytest.fixture(scope="session")
def visitors(browser: Browser) -> Iterator[BrowserContext]:
    """The browser context for visitors' tabs. Each tab has its own session on the server; all tabs share the browser's
    cache of Streamlit's scripts."""
    context = browser.new_context(viewport=SIZE)
    yield context
    context.close()


@pytest.fixture
def new_page(browser: Browser, visitors: BrowserContext) -> Iterator[Callable[..., Page]]:
    """``new_page(**context options)`` opens the tab of a new visitor, 1280 × 800 by default."""
    opened: list[Page] = []
    contexts: list[BrowserContext] = []
    said: list[str] = []

    def open_tab(**options: Any) -> Page:
        context = visitors
        if options:
            context = browser.new_context(**{"viewport": SIZE, **options})
            contexts.append(context)
        page = context.new_page()
        opened.append(page)
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        return page

    yield open_tab
    # pytest shows this output beside a failure
    print("\n".join(dict.fromkeys(said)))
    for page in opened:
        page.close()
    for context in contexts:
        context.close()


class Kept:
    """The tab that is handed on, what it has said since the last test, how many messages it has sent to the server, and
    how many runs of its script have ended."""

    def __init__(self) -> None:
        self.page: Page | None = None
        self.said: list[str] = []
        self.finished = 0
        self.sent = 0

    def _take(self, frame: bytes | str) -> None:
        if isinstance(frame, bytes) and len(frame) < 64:
            self.finished += ForwardMsg.FromString(frame).WhichOneof("type") == "script_finished"

    def _listen(self, socket: WebSocket) -> None:
        socket.on("framereceived", self._take)
        socket.on("framesent", self._count)

    def _count(self, _: bytes | str) -> None:
        self.sent += 1

    def open(self, browser: Browser) -> Page:
        if self.page is None or self.page.is_closed():
            self.page = browser.new_context(viewport=SIZE).new_page()
            self.page.set_default_timeout(PATIENCE_MS)
            self.page.on("console", lambda said: self.said.append(said.text) if said.type == "error" else None)
            self.page.on("pageerror", lambda error: self.said.append(str(error)))
            self.page.on("websocket", self._listen)
        return self.page

    def close(self) -> None:
        if self.page is not None:
            self.page.context.close()
        self.page = None


_kept = Kept()


@pytest.fixture(scope="session")
def kept_tab(browser: Browser) -> Iterator[Kept]:
    yield _kept
    _kept.close()


@pytest.fixture
def page(browser: Browser, kept_tab: Kept, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The tab that all tests use, set back to 1280 × 800 and to a page without controls."""
    failed = request.session.testsfailed
    tab = kept_tab.open(browser)
    kept_tab.said.clear()
    tab.set_viewport_size(SIZE)
    tab.emulate_media(media="null", color_scheme="null", reduced_motion="null")
    tab.mouse.move(0, 0)
    if _in_app(tab):
        visit(tab, f"{_origin(tab.url)}/about")
    yield tab
    print("\n".join(dict.fromkeys(kept_tab.said)))
    # after a failure the next test gets a new tab
    if request.session.testsfailed != failed or tab.is_closed():
        kept_tab.close()


def _origin(address: str) -> str:
    return "/".join(address.split("/")[:3]).partition("?")[0]


def _in_app(page: Page) -> bool:
    return bool(page.evaluate("() => !!document.querySelector('[data-testid=stApp]')"))


GO = """address => {
    history.pushState({}, '', address);
    dispatchEvent(new PopStateEvent('popstate', {state: {}}));
}"""
"""JavaScript that opens an address as Back does."""


def _go(page: Page, address: str) -> bool:
    """Open an address within the shared tab; returns whether its script has run to its end."""
    ready(page)
    before = _kept.finished
    page.evaluate(GO, address)
    deadline = time.monotonic() + 10
    while _kept.finished == before and time.monotonic() < deadline:
        page.wait_for_timeout(15)
    return _kept.finished > before


def ready(page: Page) -> Page:
    """Wait until the script has run and the browser has drawn its result."""
    page.wait_for_selector(READY, timeout=PATIENCE_MS)
    # a part of the page that is still loading is drawn as a skeleton
    page.wait_for_function("() => !document.querySelector('[data-testid=stSkeleton]')")
    return page


def visit(page: Page, address: str) -> Page:
    """Open an address and wait for the page; the tab that all tests use does not load the scripts again."""
    if page is _kept.page and _origin(page.url) == _origin(address) and _in_app(page):
        # without a query the controls would keep their values
        if not _go(page, address if "?" in address else f"{address}?v=1"):
            page.goto(address)
    else:
        page.goto(address)
    return ready(page)


def go_back(page: Page) -> None:
    """Press Back when the page is ready."""
    ready(page).go_back()


def go_forward(page: Page) -> None:
    """Press Forward when the page is ready."""
    ready(page).go_forward()


def button(page: Page, name: str) -> Locator:
    """A button of the page itself, not of Streamlit's header, which has its own Stop during a long run."""
    return page.get_by_test_id("stMain").get_by_role("button", name=name, exact=True)


def eventually(page: Page, holds: Callable[[], bool]) -> None:
    """Wait until ``holds()`` is true, for conditions that a locator cannot express, such as positions in motion."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not holds():
        assert time.monotonic() < deadline, f"{holds.__name__} did not come to hold"
        page.wait_for_timeout(50)


STANDING_OUT = """
    [document.scrollingElement, document.querySelector('[data-testid=stMain]'),
     ...document.querySelectorAll('[data-testid=stButtonGroup] [role=radiogroup]')]
        .filter(e => e.scrollWidth > e.clientWidth + 1)
        .map(e => `${e.tagName} ${e.getAttribute('aria-label') || ''}: ${e.scrollWidth} in ${e.clientWidth}`)
"""
"""JavaScript: the page, its main part and its rows of segments, if their content is wider than their box."""


def assert_sound(page: Page) -> None:
    """Assert that the page has no error box, no traceback and no sideways scrolling."""
    assert page.locator("[data-testid=stException]").count() == 0
    assert page.get_by_text("Traceback (most recent call last)").count() == 0
    assert page.get_by_text("this part of the page failed").count() == 0
    wide = page.evaluate(f"() => {STANDING_OUT}")
    assert not wide, f"stand out sideways or are cut off: {wide}"
