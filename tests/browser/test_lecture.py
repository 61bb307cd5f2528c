"""The lecture by keyboard, and the forms in which a view can be copied."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.conftest import assert_sound, ready, visit
from ui.components.lecture import views


def test_arrow_keys_step_through_the_lecture(app: str, page: Page) -> None:
    visit(page, f"{app}/?v=1&e_kv=32&context=131072&present=true")
    place = page.locator(".hs-lecture .place")
    expect(place).to_have_text(re.compile("^1 / "))
    expect(page.get_by_role("navigation", name="Pages")).to_have_count(0)
    page.wait_for_function("() => parseFloat(getComputedStyle(document.documentElement).fontSize) > 18")
    page.keyboard.press("ArrowRight")
    expect(place).to_have_text(re.compile("^2 / "))
    expect(page).to_have_url(re.compile(r"context=131072.*present=true"))
    # an arrow key moves a slider that has the focus
    ready(page)
    page.locator(".st-key-e_kv_pick").get_by_role("slider").press("ArrowLeft")
    expect(page).to_have_url(re.compile("e_kv=4"))
    expect(place).to_have_text(re.compile("^1 / "))
    # the keys of a clicker always move the lecture
    page.keyboard.press("PageDown")
    expect(place).to_have_text(re.compile("^2 / "))
    ready(page)
    # keys in quick succession each count, however long a page takes to be drawn
    for keys, number in ((["PageDown"] * 3, 5), (["PageUp", "PageUp", "PageDown", "PageUp"], 3)):
        for key in keys:
            page.keyboard.press(key)
        expect(place).to_have_text(re.compile(f"^{number} / "))
        ready(page)
        expect(place).to_have_text(re.compile(f"^{number} / "))
    last = len(views()) - 1
    visit(page, f"{app}/{views()[last - 1].address}")
    expect(place).to_have_text(re.compile(f"^{last} / "))
    page.keyboard.press("PageDown")
    code = page.get_by_role("img", name=re.compile("QR code of http"))
    expect(code).to_be_visible()
    expect(page.locator(".hs-closing b")).to_have_text(f"{app}/")
    assert code.evaluate("e => e.naturalWidth") > 100
    assert_sound(page)
    page.get_by_role("link", name="Leave the lecture").click()
    expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
    expect(page).not_to_have_url(re.compile("present"))
    page.wait_for_function("() => parseFloat(getComputedStyle(document.documentElement).fontSize) === 16")


def test_a_view_is_taken_along_as_markdown_and_as_a_frame(app: str, new_page: Callable[..., Page]) -> None:
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    visit(page, f"{app}/kv_cache?v=1&model=meta-llama/Llama-3.1-8B&context=131072")
    says = "Llama 3.1 8B at 128k tokens: 16.0 GiB, 4 times smaller than with MHA"
    others = page.get_by_role("button", name="Other ways to share")
    for name, begin, within in (
        ("Copy as Markdown", f"[{says}]({app}/kv_cache?", "context=131072"),
        ("Copy as iframe", f'<iframe src="{app}/kv_cache?', f'&amp;embed=true" title="{says}"'),
    ):
        others.press("Enter")
        page.get_by_role("button", name=name).click()
        expect(page.get_by_role("button", name=re.compile("copied"))).to_be_visible()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith(begin), copied
        assert within in copied
        expect(page.get_by_role("button", name=name)).to_be_hidden()
    others.press("Enter")
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Lecture view")).to_be_hidden()
    others.press("Enter")
    page.get_by_role("link", name="Lecture view").click()
    expect(page.locator(".hs-lecture")).to_be_visible()
    expect(page).to_have_url(re.compile("context=131072.*present=true"))
