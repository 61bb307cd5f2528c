"""The lessons: the animation plays by itself, texts change maps, code runs, moved controls answer questions."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Kept, assert_sound, visit
from tests.long import short

DECODE = ".st-key-decode .decode"
VIEW = ".st-key-attention .view"


def frame_number(page: Page) -> int:
    return int(page.locator(DECODE).get_attribute("data-frame") or -1)


def test_the_decode_plays_without_the_server(app: str, page: Page, kept_tab: Kept) -> None:
    visit(page, f"{app}/why")
    expect(page.locator(f"{DECODE} .n-context")).to_have_text("8,192")
    page.wait_for_timeout(500)
    before = kept_tab.sent
    page.locator(DECODE).get_by_role("button", name="Play", exact=True).click()
    scene = page.locator(DECODE).element_handle()
    page.wait_for_function("e => Number(e.dataset.frame) > 4 && Number(e.dataset.frame) < 170", arg=scene)
    drawn = int(page.locator(DECODE).get_attribute("data-drawn") or 0)
    page.wait_for_function(f"e => Number(e.dataset.drawn) > {drawn + 10}", arg=scene)
    page.locator(DECODE).get_by_role("button", name="Pause", exact=True).click()
    paused = frame_number(page)
    assert 4 < paused < 179
    expect(page.locator(f"{DECODE} .n-context")).not_to_have_text("8,192")
    page.wait_for_timeout(300)
    assert frame_number(page) == paused
    assert kept_tab.sent == before
    assert_sound(page)


def test_the_decode_steps_and_scrubs_by_keyboard(app: str, page: Page) -> None:
    visit(page, f"{app}/why?v=1&context=131072&batch=16&find=True&g_why=1")
    scrub = page.get_by_role("slider", name="Token of the decode")
    scrub.press("Home")
    expect(page.locator(f"{DECODE} .n-context")).to_have_text("1")
    page.locator(DECODE).get_by_role("button", name="One step on").press("Enter")
    expect(page.locator(DECODE)).to_have_attribute("data-frame", "1")
    page.locator(DECODE).get_by_role("button", name="One step back").press("Enter")
    expect(page.locator(DECODE)).to_have_attribute("data-frame", "0")
    expect(page.locator(f"{DECODE} .mark")).to_be_visible()
    expect(page.locator(f"{DECODE} .crossing")).to_contain_text(
        "From 7,158 tokens on, a step reads more cache than weights"
    )
    scrub.press("End")
    expect(page.locator(f"{DECODE} .n-context")).to_have_text("131,072")
    expect(page.locator(f"{DECODE} .crossing")).to_contain_text("Now a step reads more cache than weights")
    expect(page.locator(".st-key-quiz_why_half")).to_contain_text("That is it")


def test_the_flow_stands_still_for_those_who_ask_for_it(app: str, page: Page) -> None:
    page.emulate_media(reduced_motion="reduce")
    visit(page, f"{app}/why")
    expect(page.locator(DECODE)).to_have_attribute("data-playing", "no")
    page.locator(DECODE).get_by_role("button", name="Play", exact=True).click()
    page.locator(DECODE).get_by_role("button", name="Pause", exact=True).click()
    # no dash has moved along the streams: the picture depends on the frame alone
    scrub = page.get_by_role("slider", name="Token of the decode")

    def picture_of(key: str, frame: int) -> str:
        scrub.press(key)
        # the browser draws number and picture together, in its next animation frame
        expect(page.locator(DECODE)).to_have_attribute("data-frame", str(frame))
        return str(page.locator(f"{DECODE} canvas").evaluate("canvas => canvas.toDataURL()"))

    last = picture_of("End", 179)
    assert picture_of("Home", 0) != last
    assert picture_of("End", 179) == last


def test_another_text_gives_other_maps(app: str, page: Page) -> None:
    visit(page, f"{app}/heads_learn")
    view = page.locator(VIEW)
    expect(view.locator("canvas")).to_have_count(8)
    before = view.get_attribute("data-key")
    page.locator(".st-key-learn_text").get_by_role("combobox").click()
    page.get_by_role("option", name="Brackets").click()
    expect(view).not_to_have_attribute("data-key", str(before))
    expect(view.locator(".text")).to_contain_text("points")
    other = view.get_attribute("data-key")
    page.locator(".st-key-learn_model").get_by_role("radio", name="MHA").or_(
        page.locator(".st-key-learn_model").get_by_role("button", name="MHA")
    ).click()
    expect(view).not_to_have_attribute("data-key", str(other))
    expect(page).to_have_url(re.compile("learn_model=mha"))
    assert_sound(page)


def test_a_byte_and_heads_are_chosen_by_keyboard(app: str, page: Page) -> None:
    visit(page, f"{app}/heads_learn")
    view = page.locator(VIEW)
    text = view.locator(".text")
    text.press("Home")
    expect(view).to_have_attribute("data-chosen", "0")
    text.press("End")
    text.press("ArrowLeft")
    said = view.locator(".said").inner_text()
    assert "Byte" in said
    expect(view.locator(".next b")).to_have_count(5)
    head = view.get_by_role("button").nth(7)
    pressed = head.get_attribute("aria-pressed")
    head.press("Enter")
    expect(head).to_have_attribute("aria-pressed", "false" if pressed == "true" else "true")
    for at in range(8):
        button = view.get_by_role("button").nth(at)
        if button.get_attribute("aria-pressed") == "true":
            button.press("Enter")
    expect(view.locator(".said")).to_contain_text("no head is shown")
    assert view.locator(".arcs path").count() == 0


@pytest.mark.parametrize(
    ("typed", "seen"),
    short(
        [
            (quote("héllo 🙂 [1]"), "hex"),
            ("%ff%fe%00abc", "abc"),
            (quote("x" * 2000), "Only the first 256 of 2,000 bytes"),
            (quote("y" * 10_000), "was replaced"),
            ("%20%20", "was replaced"),
        ],
        [("%ff%fe%00abc" + quote("é🙂"), "hex"), (quote("y" * 10_000), "was replaced")],
    ),
)
def test_any_text_in_the_address(app: str, page: Page, typed: str, seen: str) -> None:
    visit(page, f"{app}/heads_learn?v=1&learn_text={quote('Your own text …')}&learn_own={typed}")
    if seen == "hex":
        expect(page.locator(f"{VIEW} .text span.hex").first).to_be_visible()
    else:
        expect(page.get_by_text(re.compile(re.escape(seen))).first).to_be_visible()
    assert_sound(page)


def test_the_code_shows_its_steps_and_runs(app: str, page: Page) -> None:
    visit(page, f"{app}/code")
    diff = page.locator(".hs-diff")
    expect(diff.locator(".add").first).to_contain_text("class MultiQueryAttention")
    page.locator(".st-key-code_step").get_by_text("MQA → GQA").click()
    expect(diff.locator(".add").first).to_contain_text("class GroupedQueryAttention")
    expect(diff.locator(".note").last).to_contain_text("[1, 8, 4, 1, 128]")
    page.get_by_role("button", name="Run it", exact=True).click()
    expect(page.get_by_text("token by token with the cache is all at once")).to_be_visible(timeout=60_000)
    expect(page.get_by_text(re.compile(r"^equal"))).to_have_count(3)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download one file").click()
    assert "class GroupedQueryAttention" in download.value.path().read_text()
    assert_sound(page)


def test_questions_are_answered_by_moving_the_slider(app: str, page: Page) -> None:
    visit(page, f"{app}/spectrum")
    page.locator(".st-key-find summary").press("Enter")
    page.locator(".st-key-guess-spectrum button").first.press("Enter")
    expect(page.get_by_text("3 · Why.")).to_be_visible()
    expect(page).to_have_url(re.compile("g_spectrum=1"))
    problem = page.locator(".hs-problems details").first
    problem.locator("summary").press("Enter")
    expect(problem).to_contain_text("2 · 80 layers")
    expect(problem.locator("b")).to_be_visible()
    question = page.locator(".st-key-quiz_spectrum_ninety")
    expect(question).to_contain_text("Now: 75.0 %")
    slider = page.locator(".st-key-spec_kv_pick").get_by_role("slider")
    slider.press("ArrowLeft")
    slider.press("ArrowLeft")
    expect(question).to_contain_text("That is it")
    expect(page).to_have_url(re.compile("spec_kv=2"))


def test_published_tables_can_be_read(app: str, page: Page) -> None:
    visit(page, f"{app}/published?find=True&g_published=1")
    question = page.locator(".st-key-quiz_published_cheapest")
    expect(question).to_contain_text("Now: MHA-XXL")
    page.locator(".st-key-pub_pick").get_by_text("GQA-8-XXL").click()
    expect(question).to_contain_text("That is it")
    assert_sound(page)
