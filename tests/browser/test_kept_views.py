"""Every view is a link: what a visitor has done is what somebody else sees who opens the address."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import assert_sound, button, go_back, go_forward, ready, visit

LONG_MS = 180_000
TINY = "model=custom&layers=2&heads=6&kv_heads=3&head_dim=16&context=64"


def words(page: Page) -> str:
    """What the page's own part says, without what is hidden."""
    return str(ready(page).get_by_test_id("stMain").inner_text())


def numbers_of(place: Locator) -> str:
    """What a picture says: its own words, and those that it says of itself."""
    return str(place.evaluate("e => e.querySelector('svg')?.getAttribute('aria-label') ?? e.textContent"))


def test_a_run_on_explore_is_seen_by_who_opens_its_link(app: str, new_page: Callable[..., Page]) -> None:
    page = visit(new_page(viewport={"width": 390, "height": 844}), f"{app}/?{TINY}")
    button(page, "Run").click()
    expect(page).to_have_url(re.compile("e_kept=[0-9a-f]{16}"), timeout=LONG_MS)
    expect(page.get_by_text("Measured on")).to_be_visible()
    expect(page.locator(".st-key-times")).to_contain_text(re.compile(r"\d (ms|µs)"))
    other = visit(new_page(), page.url)
    expect(other.get_by_text("Measured on")).to_be_visible()
    own = page.locator(".st-key-explore_status").inner_text()
    assert other.locator(".st-key-explore_status").inner_text() == own
    times = page.locator(".st-key-times svg").last.get_attribute("aria-label")
    expect(other.locator(".st-key-times svg").last).to_have_attribute("aria-label", str(times))
    # before the run there was none; after it, a moved control keeps it in the address
    go_back(page)
    expect(page).not_to_have_url(re.compile("e_kept"))
    expect(page.get_by_text("Measured on")).to_have_count(0)
    go_forward(page)
    expect(page.get_by_text("Measured on")).to_be_visible()
    assert_sound(page)
    assert_sound(other)


def test_a_run_in_the_lab_is_seen_by_who_opens_its_link(app: str, new_page: Callable[..., Page]) -> None:
    page = visit(new_page(), f"{app}/lab?lab_kv=1&lab_alpha=1")
    button(page, "Start").click()
    expect(page.get_by_text(re.compile(r"Step \d+ of"))).to_be_visible(timeout=LONG_MS)
    button(page, "Stop").click()
    expect(page).to_have_url(re.compile("lab_kept=[0-9a-f]{16}"), timeout=LONG_MS)
    ready(page)
    other = visit(new_page(), page.url)
    for key in ("lab_status", "numbers"):
        own = page.locator(f".st-key-{key}").first.inner_text()
        expect(other.locator(f".st-key-{key}").first).to_have_text(own, use_inner_text=True)
    expect(other.locator(".st-key-lab_status")).to_contain_text("Stopped after")
    assert_sound(other)


def test_a_link_to_a_run_that_is_not_kept_says_so(app: str, page: Page) -> None:
    for address in ("?e_kept=no-such-run", "lab?lab_kept=0123456789abcdef", "spectrum?spec_kept=x"):
        visit(page, f"{app}/{address}")
        expect(page.get_by_text("This run is not kept here")).to_be_visible()
        assert_sound(page)
    visit(page, f"{app}/?e_kept=%3Cb%3E")
    expect(page.locator(".st-key-notice")).to_contain_text("e_kept")


@pytest.mark.parametrize("width", [390, 1280])
def test_the_byte_and_the_heads_looked_at_are_in_the_address(
    app: str, page: Page, new_page: Callable[..., Page], width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    visit(page, f"{app}/heads_learn?learn_text=Brackets")
    view = page.locator(".st-key-attention .view")
    text = view.locator(".text")
    view.locator(".text span").nth(10).click()
    for _ in range(5):
        text.press("ArrowRight")
    expect(view).to_have_attribute("data-chosen", "15")
    expect(page).to_have_url(re.compile("learn_byte=15"))
    view.get_by_role("button").nth(7).click()
    view.get_by_role("button").nth(6).click()
    expect(page).to_have_url(re.compile("learn_heads="))
    ready(page)
    said, shown = view.locator(".said").inner_text(), view.get_attribute("data-shown")
    other = visit(new_page(), page.url).locator(".st-key-attention .view")
    expect(other.locator(".said")).to_have_text(said)
    expect(other).to_have_attribute("data-shown", str(shown))
    # another layer keeps both, another text only the heads
    page.locator(".st-key-learn_layer").get_by_role("radio", name="3").or_(
        page.locator(".st-key-learn_layer").get_by_role("button", name="3")
    ).click()
    expect(page).to_have_url(re.compile("learn_layer=3.*learn_byte=15"))
    expect(view).to_have_attribute("data-chosen", "15")
    page.locator(".st-key-learn_text").get_by_role("combobox").click()
    page.get_by_role("option", name="Words").click()
    expect(page).to_have_url(re.compile("learn_text=Words"))
    expect(page).not_to_have_url(re.compile("learn_byte"))
    expect(view).to_have_attribute("data-shown", str(shown))
    go_back(page)
    expect(view).to_have_attribute("data-chosen", "15")
    assert_sound(page)


def test_a_byte_that_the_text_does_not_have_is_replaced_in_words(app: str, page: Page) -> None:
    own = quote("Your own text …")
    visit(page, f"{app}/heads_learn?learn_text={own}&learn_own=abc&learn_byte=200&learn_heads=none")
    expect(page.get_by_text("The text has no byte 200, only 0 to 2")).to_be_visible()
    expect(page.locator(".st-key-attention .said")).to_contain_text("no head is shown")
    assert_sound(page)


def test_the_parameter_count_of_why_share_is_in_the_address(
    app: str, page: Page, new_page: Callable[..., Page]
) -> None:
    visit(page, f"{app}/why?model=custom")
    box = page.locator(".st-key-parameters_pick input")
    box.fill("12.345")
    box.press("Enter")
    expect(page).to_have_url(re.compile("parameters=12.345"))
    ready(page)
    other = visit(new_page(), page.url)
    expect(other.locator(".st-key-parameters_pick input")).to_have_value("12.345")
    assert words(other) == words(page)
