"""The path from page to page, the words with their meanings, and the pictures in steps."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Kept, assert_sound, ready, visit
from tests.long import drawn

PICTURES = {
    "with_cache": ("recompute", 9),
    "other_ways": ("windows", 23),
    "why": ("one_row", 11),
    "spectrum?spec_kv=1": ("ranks", 5),
}
"""Page -> (key of a picture, the step at which it begins, which is its last)."""


def along(page: Page, which: str) -> Locator:
    return page.get_by_role("navigation", name="Path").get_by_role("link", name=re.compile(which))


def test_next_opens_the_view_that_makes_the_point_and_keeps_the_session(app: str, page: Page) -> None:
    visit(page, f"{app}/with_cache?v=1&context=4096&batch=3")
    page.evaluate("window.neverLoadedAnew = true")
    expect(along(page, "Back")).to_contain_text("Explore")
    along(page, "Next").click()
    expect(page).to_have_title(re.compile("Why share"))
    expect(page).to_have_url(re.compile("/why.*context=32768&batch=32.*why_acc=b200"))
    # the page opens with 32 users, and its button says so
    expect(page.get_by_role("button", name="32 users: 90 % cache")).to_be_visible()
    page.get_by_role("button", name=re.compile("1 user")).click()
    expect(page).to_have_url(re.compile("batch=1&"))
    page.wait_for_function("() => document.querySelector('[data-testid=stMain]').scrollTop < 400")
    along(page, "Back").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_title(re.compile("What a cache saves"))
    page.go_back()
    expect(page).to_have_title(re.compile("Why share"))
    assert page.evaluate("window.neverLoadedAnew"), "the page was loaded anew"
    assert_sound(page)


def test_a_word_says_what_it_means_to_pointer_and_keyboard(app: str, page: Page) -> None:
    visit(page, f"{app}/why?v=1")
    card = page.get_by_role("tooltip")
    expect(card).to_be_hidden()
    page.locator(".hs-words button", has_text="prefill").hover()
    expect(card).to_contain_text("Reading the prompt")
    page.mouse.move(5, 5)
    expect(card).to_be_hidden()
    # plain words wait behind a button; the keyboard reaches them there
    expect(page.locator(".hs-words").get_by_role("button", name="query head")).to_have_count(0)
    page.locator(".hs-words").get_by_role("button", name="plain words").press("Enter")
    expect(page.locator(".hs-words").get_by_role("button", name="query head")).to_be_focused()
    page.locator(".hs-words button", has_text="KV cache").focus()
    page.keyboard.press("Tab")
    expect(card).to_contain_text("one new token of each sequence")
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()
    # the same in the page's text, in which no element was added
    text = page.get_by_text("Prefill, the reading of the prompt")
    text.scroll_into_view_if_needed()
    # words are marked when the page has not changed for a moment
    page.wait_for_function("() => CSS.highlights.get('hs-word')?.size > 2")
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    text.hover(position={"x": 20, "y": 12})
    expect(card).to_contain_text("prefill. Reading the prompt")
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight") == height


@pytest.mark.parametrize("name", drawn(list(PICTURES), 2))
def test_a_picture_plays_pauses_and_steps_by_keyboard_without_the_server(
    app: str, page: Page, kept_tab: Kept, name: str
) -> None:
    key, last = PICTURES[name]
    visit(page, f"{app}/{name}")
    picture = page.locator(f".st-key-{key} .picture")
    expect(picture).to_have_attribute("data-step", str(last))
    page.wait_for_timeout(500)
    before = kept_tab.sent
    scrub = picture.get_by_role("slider")
    scrub.press("Home")
    expect(picture).to_have_attribute("data-step", "0")
    picture.get_by_role("button", name="One step on").press("Enter")
    expect(picture).to_have_attribute("data-step", "1")
    picture.get_by_role("button", name="Play").press("Enter")
    page.wait_for_function("e => Number(e.dataset.step) > 2", arg=picture.element_handle())
    picture.get_by_role("button", name="Pause").press("Enter")
    paused = picture.get_attribute("data-step")
    page.wait_for_timeout(1000)
    assert picture.get_attribute("data-step") == paused
    said = picture.locator(".says").inner_text()
    assert scrub.get_attribute("aria-valuetext") == said
    assert said in str(picture.locator("svg").get_attribute("aria-label"))
    assert kept_tab.sent == before
    for width in (320, 820, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        drawn = "() => { const svg = e.querySelector('svg'); return svg.viewBox.baseVal.width === svg.clientWidth; }"
        page.wait_for_function(f"e => ({drawn})()", arg=picture.element_handle())
        assert_sound(page)
    page.emulate_media(reduced_motion="reduce")
    assert picture.locator(".moves").first.evaluate("e => getComputedStyle(e).transitionDuration") == "0s"


def test_the_latent_picture_goes_through_its_four_steps(app: str, page: Page) -> None:
    visit(page, f"{app}/other_ways?v=1")
    picture = page.locator(".st-key-latent .picture")
    expect(picture.locator(".says")).to_contain_text("These 576 numbers are all that is kept")
    scrub = picture.get_by_role("slider")
    for key, said in (("ArrowRight", "3 · Unfold"), ("ArrowRight", "4 · Or fold"), ("Home", "1 · Squeeze")):
        scrub.press(key)
        expect(picture.locator(".says")).to_contain_text(said)
    ready(page)
    assert_sound(page)


MOVING = """() => {
    const text = document.createElement('p');
    document.querySelector('[data-testid=stMain]').append(text);
    window.moving = setInterval(() => { text.textContent = Date.now(); }, 100);
    CSS.highlights.clear();
}"""
MARKED = "[...(CSS.highlights.get('hs-word') ?? [])].map(range => range.toString())"


def test_words_are_marked_on_a_page_that_moves_and_no_mark_outlives_its_text(app: str, page: Page) -> None:
    visit(page, f"{app}/why?v=1")
    page.wait_for_function(f"() => {MARKED}.length > 2")
    page.evaluate(MOVING)
    try:
        page.wait_for_function(f"() => {MARKED}.length > 2")
        # while the page still changes, a word that disappears loses its mark
        page.evaluate("""() => {
            const [range] = CSS.highlights.get('hs-word');
            window.gone = range;
            range.startContainer.data = 'nothing of the field';
        }""")
        page.wait_for_function("() => !CSS.highlights.get('hs-word').has(window.gone)")
        assert all(page.evaluate(MARKED))
    finally:
        page.evaluate("clearInterval(window.moving)")
    # the next page has only marks of its own words
    visit(page, f"{app}/timings?v=1")
    page.wait_for_function(
        f"""() => {{
            const words = {MARKED}, here = [...document.querySelectorAll('.hs-words [data-word]')];
            const starts = here.map(button => button.dataset.word.slice(0, 5).toLowerCase());
            return words.length && words.every(word => starts.some(start => word.toLowerCase().startsWith(start)));
        }}"""
    )


def test_the_switch_lets_a_whole_prompt_pass(app: str, page: Page) -> None:
    visit(page, f"{app}/why?v=1&context=32768&batch=32&why_acc=b200")
    animation = page.locator(".st-key-decode .decode")
    expect(animation.locator(".step-time")).to_have_text("waits for memory")
    expect(animation.locator(".busy")).to_have_text("busy 2.4 % of it")
    page.get_by_role("radio", name="Prefill").click()
    expect(animation.locator(".step-time")).to_have_text("is busy computing")
    expect(animation.locator(".busy")).to_have_text("busy 100 % of it")
    expect(animation.locator(".l-context")).to_have_text("Tokens of the prompt")
    expect(page).to_have_url(re.compile("why_phase=prefill"))
    # a prompt of one token waits for memory too
    animation.get_by_role("slider").press("Home")
    expect(animation.locator(".step-time")).to_have_text("waits for memory")
    assert_sound(page)


def test_the_slider_of_heads_takes_the_accelerators_along(app: str, page: Page) -> None:
    visit(page, f"{app}/spectrum?v=1")
    picture = page.locator(".st-key-ranks .picture")
    expect(picture.locator(".says")).to_contain_text("8 accelerators deal out 8 K/V heads, 1 each")
    page.get_by_role("slider", name="K/V heads").press("Home")
    expect(picture.locator(".says")).to_contain_text("8 copies of every entry")
    picture.get_by_role("slider").press("Home")
    expect(picture.locator(".says")).to_contain_text("MHA: 8 accelerators deal out 32 K/V heads, 4 each")
