"""Explore by keyboard alone, with a visible focus; the calculator on paper."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import FloatRect, Locator, Page, expect

from tests.browser.conftest import button, visit
from tests.long import long

FOCUSED = "e => e === (e.getRootNode().activeElement)"
DRAWN = ".js-plotly-plot .main-svg"


def tab_to(page: Page, target: Locator) -> None:
    """Press Tab until `target` has the focus, and assert that it looks different then."""
    # while a part of the page is replaced, it is there twice for a moment
    expect(target).to_have_count(1)
    page.mouse.move(0, 0)
    around = target.locator("xpath=ancestor-or-self::*[self::button or @role='group'][1]")
    # a picture of the element, with space for an outline around it
    box = around.bounding_box()
    assert box is not None
    clip: FloatRect = {"x": box["x"] - 4, "y": box["y"] - 4, "width": box["width"] + 8, "height": box["height"] + 8}
    unfocused = page.screenshot(clip=clip, animations="disabled", caret="hide")
    for _ in range(60):
        page.keyboard.press("Tab")
        if target.evaluate(FOCUSED):
            break
    else:
        pytest.fail(f"Tab does not reach {target}")
    assert target.evaluate("e => e.matches(':focus-visible')")
    assert page.screenshot(clip=clip, animations="disabled", caret="hide") != unfocused


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """A new visitor for each test, so that the browser's focus is at its beginning."""
    return new_page()


def test_explore_without_a_mouse(app: str, page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    # a window as high as the page, so that nothing scrolls between two pictures
    page.set_viewport_size({"width": 1280, "height": 1400})
    visit(page, app)
    expect(page.locator(".st-key-ways rect").first).to_be_visible()

    tab_to(page, page.locator(".st-key-model input"))
    page.keyboard.type("Llama 2 7B")
    expect(page.get_by_role("option", name="Llama 2 7B MHA", exact=True)).to_be_visible()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("model=meta-llama%2FLlama-2-7b"))
    expect(page.get_by_text("4.00 GiB").first).to_be_visible()

    tab_to(page, page.locator(".st-key-context_pick input"))
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_text("2.00 GiB").first).to_be_visible()

    tab_to(page, page.get_by_role("button", name="Run", exact=True))
    page.keyboard.press("Enter")
    stop = button(page, "Stop")
    expect(stop).to_be_visible()
    tab_to(page, stop)
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_visible()

    tab_to(page, page.get_by_role("button", name="Copy link"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Link copied")).to_be_visible()
    assert page.evaluate("() => navigator.clipboard.readText()") == page.url


@long("tests/browser/test_paper.py")
def test_the_calculator_on_paper(app: str, page: Page) -> None:
    visit(page, f"{app}/kv_cache")
    expect(page.locator(DRAWN).first).to_be_visible()
    controls = (
        "[data-testid=stSidebar]",
        "[data-testid=stMain] button",
        "[data-testid=stHeader]",
        "[data-testid=stTooltipIcon]",
    )
    for selector in controls[:3]:
        assert page.locator(selector).locator("visible=true").count(), f"{selector} names nothing on the screen"
    # A4 at 96 dots per inch, without margins
    page.set_viewport_size({"width": 718, "height": 1047})
    page.emulate_media(media="print")
    for selector in controls:
        expect(page.locator(selector).locator("visible=true")).to_have_count(0)
    # the chosen values, the result, and every whole figure
    expect(page.locator(".st-key-model input")).to_have_value("Llama 3.1 8B")
    expect(page.get_by_text("1.00 GiB").first).to_be_visible()
    page.wait_for_function(
        f"""() => [...document.querySelectorAll('{DRAWN}')].every(figure => {{
            const box = figure.getBoundingClientRect();
            return box.width > 300 && box.left >= 0 && box.right <= 719;
        }})"""
    )
    for key in ("kv_variants", "kv_allocation"):
        box = page.locator(f".st-key-{key} svg").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 719
