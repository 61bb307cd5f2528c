"""Every page at every width: words are whole, nothing is cut off or overlaps, nothing moves while it loads.

The console is empty; pages are light and dark in turn. On some pages, drawn anew in each run, axe-core finds no
violation of ours. A new file in ``pages/`` is included by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import SIZE, assert_sound, visit
from tests.browser.looks import MOST_SHIFT, at_rest, findings, shifts, watch_console, watch_shifts
from tests.browser.test_axe import SCHEMES, violations
from tests.long import SOAK, drawn
from tests.server import PATIENCE_MS, ROOT

PAGES = ["", *sorted(p.stem for p in (ROOT / "pages").glob("*.py"))]
DRAWN_TO = (1920, 1024, 820, 390, 320) if SOAK else (820, 320)
"""A page is opened at a width of 1280 and then resized to these widths."""
AXED = drawn(PAGES, 6)
"""Pages that axe-core looks at: it takes longer than all else together."""
LOADS = [("", 1280), ("", 390), ("timings", 390), ("fit", 1280), ("lab", 820)]
"""(page, width) that a tab loads: each kind of figure, and a page with many elements."""
if SOAK:
    LOADS = [(name, width) for width in (1280, *DRAWN_TO) for name in PAGES]


@pytest.fixture(scope="module")
def watched(browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    """A tab that loads one page after another, and the list of its console's messages."""
    context = browser.new_context()
    watch_shifts(context)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    yield page, watch_console(page)
    context.close()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "width"), drawn(LOADS, 3))
def test_a_page_stands_still_while_it_loads(app: str, watched: tuple[Page, list[str]], name: str, width: int) -> None:
    page, said = watched
    page.set_viewport_size({"width": width, "height": 844 if width < 700 else 900})
    said.clear()
    for _ in range(3):
        # on a busy machine a slow page is shown part by part; only a real fault shows again in three tries
        visit(page, f"{app}/{name}")
        at_rest(page)
        moved, what = shifts(page)
        if moved < MOST_SHIFT:
            break
    assert moved < MOST_SHIFT, what[:5]
    assert findings(page) == []
    assert_sound(page)
    assert said == []


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_page_at_its_widths(app: str, page: Page, name: str) -> None:
    scheme = SCHEMES[PAGES.index(name) % 2]
    said = watch_console(page)
    page.emulate_media(color_scheme=scheme)
    visit(page, f"{app}/{name}")
    expect(page.locator("[data-testid=stApp]")).to_have_css("color-scheme", scheme)
    others = DRAWN_TO if SOAK else (320, 820) if PAGES.index(name) % 2 else (320,)
    for width in (SIZE["width"], *others):
        page.set_viewport_size({"width": width, "height": SIZE["height"]})
        at_rest(page)
        assert findings(page) == [], width
        assert_sound(page)
        if width == SIZE["width"] and name in AXED:
            assert violations(page) == []
    assert said == []


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("<p style='width: 3em; overflow-wrap: anywhere'>multiplication</p>", "broken inside a word: multiplication"),
        ("<p style='width: 9em'>well-known multi-head attention, 1/8</p>", ""),
        (
            "<p style='width: 3em; overflow: hidden; text-overflow: ellipsis; white-space: nowrap'>a long text</p>",
            "cut",
        ),
        ("<input style='width: 3em' value='H100 SXM 80 GB'>", "cut off: H100"),
        ("<p style='position: absolute; top: 9px'>one</p><p style='position: absolute; top: 12px'>two</p>", "on one"),
        ("<p>&lt;b&gt;this run&lt;/b&gt;</p>", "markup is shown: <b>this run"),
        ("<div style='width: 3000px'>wide</div>", "wider than what is seen of it: stMain"),
    ],
)
def test_the_checks_can_fail(page: Page, body: str, found: str) -> None:
    page.set_content(
        f"<main data-testid=stMain style='overflow: auto; height: 300px; position: relative'>{body}</main>"
    )
    lines = findings(page)
    assert [line for line in lines if line.startswith(found)] if found else not lines, lines


def test_a_shift_is_seen(page: Page) -> None:
    watch_shifts(page.context)
    page.goto("about:blank")
    page.set_content("<p id=a>text that is pushed down</p><p>and more of it</p>")
    page.evaluate(
        """() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => {
            document.body.insertAdjacentHTML('afterbegin', '<div style="height: 400px"></div>'); done(); })))"""
    )
    page.wait_for_function("() => window.headshareShifts.length")
    assert shifts(page)[0] > 0.01


def test_the_list_of_pages_is_closed_where_the_page_needs_the_room(app: str, new_page: Callable[..., Page]) -> None:
    page = new_page(viewport={"width": 1024, "height": 800})
    visit(page, f"{app}/about")
    sidebar = page.get_by_test_id("stSidebar")
    expect(sidebar).to_have_attribute("data-collapsed", "true")
    # a visitor can open the list, and a wide window begins with the list open
    page.get_by_test_id("stExpandSidebarButton").click()
    expect(sidebar).to_have_attribute("data-collapsed", "false")
    visit(page, f"{app}/about")
    expect(sidebar).to_have_attribute("data-collapsed", "true")
    page.set_viewport_size({"width": 1280, "height": 800})
    expect(sidebar).to_have_attribute("data-collapsed", "false")
    page.set_viewport_size({"width": 1000, "height": 800})
    expect(sidebar).to_have_attribute("data-collapsed", "true")
    # a choice made in a wide window is kept while the window is narrow
    page.set_viewport_size({"width": 1280, "height": 800})
    expect(sidebar).to_have_attribute("data-collapsed", "false")
    sidebar.hover()
    page.get_by_test_id("stSidebarCollapseButton").get_by_role("button").click()
    expect(sidebar).to_have_attribute("data-collapsed", "true")
    page.set_viewport_size({"width": 900, "height": 800})
    visit(page, f"{app}/about")
    page.set_viewport_size({"width": 1280, "height": 800})
    visit(page, f"{app}/about")
    expect(sidebar).to_have_attribute("data-collapsed", "true")
