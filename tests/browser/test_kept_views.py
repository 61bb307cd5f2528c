"""Every view has a link: whoever opens the address sees what the visitor has chosen."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

from playwright.sync_api import Page, expect

from tests.browser.conftest import assert_sound, go_back, ready, visit
from tests.long import SOAK, long


def words(page: Page) -> str:
    """The visible text of the page's main part."""
    return str(ready(page).get_by_test_id("stMain").inner_text())


def test_a_link_to_a_run_that_is_not_kept_says_so(app: str, page: Page) -> None:
    for address in ("?e_kept=no-such-run", "lab?lab_kept=0123456789abcdef", "spectrum?spec_kept=x"):
        visit(page, f"{app}/{address}")
        expect(page.get_by_text("This run is not kept here")).to_be_visible()
        assert_sound(page)
    visit(page, f"{app}/?e_kept=%3Cb%3E")
    expect(page.locator(".st-key-notice")).to_contain_text("e_kept")


def test_the_byte_and_the_heads_looked_at_are_in_the_address(
    app: str, page: Page, new_page: Callable[..., Page]
) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
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
    # with another layer byte and heads stay; with another text only the heads stay
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


def test_back_and_forward_pressed_in_a_hurry(app: str, page: Page) -> None:
    """The second press comes while the page of the first one is still loading; no press is lost."""
    layers = page.locator(".st-key-learn_layer")
    visit(page, f"{app}/heads_learn?learn_text=Brackets")
    for layer in "234":
        layers.get_by_text(layer, exact=True).click()
        expect(page).to_have_url(re.compile(f"learn_layer={layer}"))
        ready(page).wait_for_timeout(1000)
    for direction, there in ((-1, "2"), (1, "4")) * (3 if SOAK else 1):
        for gap in (60, 0):
            page.evaluate("direction => history.go(direction)", direction)
            page.wait_for_timeout(gap)
        expect(layers.locator("[aria-checked=true]")).to_have_text(there)
        expect(page).to_have_url(re.compile(f"learn_layer={there}"))
        ready(page).wait_for_timeout(1000)


def test_a_byte_that_the_text_does_not_have_is_replaced_in_words(app: str, page: Page) -> None:
    own = quote("Your own text …")
    visit(page, f"{app}/heads_learn?learn_text={own}&learn_own=abc&learn_byte=200&learn_heads=none")
    expect(page.get_by_text("The text has no byte 200, only 0 to 2")).to_be_visible()
    expect(page.locator(".st-key-attention .said")).to_contain_text("no head is shown")
    assert_sound(page)


@long("the byte and the heads looked at, on another page")
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
