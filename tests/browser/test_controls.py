"""Shared controls in unusual orders: a control, the page and its address always agree."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import assert_sound, go_back, ready, visit
from tests.browser.test_axe import PAGES
from tests.long import long, short

GPT2 = Path(__file__).resolve().parents[1] / "data" / "configs" / "openai-community__gpt2.json"
QWEN = GPT2.with_name("Qwen__Qwen3-8B.json")


def expect_open(page: Page) -> None:
    """Wait until the panel has opened and is still.

    Otherwise Playwright scrolls to the clicked control first, and scrolling closes an open list.
    """
    details = page.locator(".st-key-more details")
    expect(details).to_have_attribute("open", "")
    details.evaluate("e => Promise.all(e.getAnimations({subtree: true}).map(a => a.finished.catch(() => 0)))")


def open_more(page: Page) -> None:
    page.locator(".st-key-more summary").click()
    expect_open(page)


def expect_closed(page: Page) -> None:
    expect(page.locator(".st-key-more details")).not_to_have_attribute("open", "")


def set_number(page: Page, key: str, value: int) -> None:
    box = page.locator(f".st-key-{key} input")
    box.fill(str(value))
    box.press("Enter")


@pytest.fixture
def sized(page: Page) -> Callable[[int], Page]:
    def size(width: int) -> Page:
        page.set_viewport_size({"width": width, "height": 900})
        return page

    return size


@pytest.mark.parametrize(
    ("path", "width"),
    short([("", 390), ("kv_cache", 1280), ("spectrum", 1280), ("why", 390)], [("why", 390)]),
)
def test_more_shows_the_context_after_another_control_was_moved(
    app: str, sized: Callable[[int], Page], path: str, width: int
) -> None:
    page = visit(sized(width), f"{app}/{path}?context=5000")
    set_number(page, "batch", 3)
    expect(page).to_have_url(re.compile("batch=3"))
    ready(page)
    open_more(page)
    exact = page.locator(".st-key-context_exact input")
    expect(exact).to_have_value("5000")
    page.keyboard.press("Escape")
    expect_closed(page)
    set_number(page, "batch", 4)
    expect(page).to_have_url(re.compile("context=5000&batch=4"))
    assert_sound(page)


def test_more_follows_the_slider_after_it_was_closed(app: str, sized: Callable[[int], Page]) -> None:
    page = visit(sized(390), f"{app}/kv_cache?context=8192&k_weights=int4")
    open_more(page)
    set_number(page, "context_exact", 5000)
    expect(page).to_have_url(re.compile("context=5000"))
    ready(page)
    page.locator("h1").click()
    expect_closed(page)
    page.locator(".st-key-context_pick").get_by_role("slider").press("ArrowRight")
    expect(page).to_have_url(re.compile("context=8192"))
    ready(page)
    set_number(page, "batch", 7)
    expect(page).to_have_url(re.compile("context=8192&batch=7.*k_weights=int4"))
    open_more(page)
    expect(page.locator(".st-key-context_exact input")).to_have_value("8192")
    expect(page.locator(".st-key-k_weights input")).to_have_value("int4")
    go_back(page)
    expect(page.locator(".st-key-context_exact input")).to_have_value("8192")
    expect(page.locator(".st-key-batch input")).to_have_value("1")
    expect(page).to_have_url(re.compile("batch=1&"))


@pytest.mark.parametrize(
    ("path", "moved", "key", "value"),
    short(
        [
            ("roofline?r_weights=int4&r_dtype=bfloat16", "r_acc", "r_dtype", "bfloat16"),
            ("roofline?r_weights=int4&r_dtype=bfloat16", "r_acc", "r_weights", "int4"),
            ("timings?t_dim=64&t_batch=2", "t_dtype", "t_dim", "64"),
            ("decode_step?d_width=4321", "d_dtype", "d_width", "4321"),
            ("fit?kv=int4", "f_acc", "kv", "int4"),
            ("heads?kv=q8_0", "model", "kv", "q8_0"),
            ("compare?cmp_tp=2", "kv", "cmp_tp", "2"),
            ("code?context=777", "batch", "context_exact", "777"),
        ],
        [
            ("roofline?r_weights=int4&r_dtype=bfloat16", "r_acc", "r_dtype", "bfloat16"),
            ("heads?kv=q8_0", "model", "kv", "q8_0"),
            ("code?context=777", "batch", "context_exact", "777"),
        ],
    ),
)
def test_what_stands_under_more_is_what_the_page_uses(
    app: str, page: Page, path: str, moved: str, key: str, value: str
) -> None:
    visit(page, f"{app}/{path}")
    before = page.url
    control = page.locator(f".st-key-{moved} input").first
    control.click()
    control.press("ArrowUp" if moved == "batch" else "ArrowDown")
    control.press("Enter")
    page.wait_for_function("before => location.href !== before", arg=before)
    ready(page)
    open_more(page)
    expect(page.locator(f".st-key-{key} input").first).to_have_value(value)
    said = path.partition("?")[2].split("&")
    assert all(part in page.url for part in said), (said, page.url)


@pytest.mark.parametrize(
    ("path", "width"),
    short(
        [(path, width) for path in PAGES for width in (320, 390, 820, 1024, 1280, 1920)],
        [("fit", 1280), ("fit", 390), ("kv_cache", 820)],
    ),
)
def test_the_panel_of_more_is_inside_the_page(app: str, sized: Callable[[int], Page], path: str, width: int) -> None:
    page = visit(sized(width), f"{app}/{path}?v=1")
    if not page.locator(".st-key-more").count():
        return
    open_more(page)
    main = page.get_by_test_id("stMain").bounding_box()
    panel = page.locator(".st-key-more details > :not(summary)").bounding_box()
    assert main
    assert panel
    assert panel["x"] >= main["x"], (panel, main)
    assert panel["x"] + panel["width"] <= main["x"] + main["width"], (panel, main)
    page.keyboard.press("Escape")
    expect_closed(page)


def test_more_is_a_menu_for_keyboard_and_mouse(app: str, page: Page) -> None:
    visit(page, f"{app}/kv_cache")
    summary = page.locator(".st-key-more summary")
    # the keyboard does not reach the controls of the closed panel
    expect(page.locator(".st-key-more [data-testid=stExpanderDetails]")).to_have_attribute("inert", "")
    summary.focus()
    page.keyboard.press("Enter")
    expect_open(page)
    expect(page.locator(".st-key-context_exact input")).to_be_visible()
    # the list of a control of the panel is outside the panel, and a click on it does not close the panel
    page.locator(".st-key-k_weights input").click()
    page.get_by_role("option", name="int4", exact=True).click()
    expect(page).to_have_url(re.compile("k_weights=int4"))
    expect(page.locator(".st-key-more details")).to_have_attribute("open", "")
    page.keyboard.press("Escape")
    # a click elsewhere while it closes does not open it again
    page.locator("h1").click()
    expect_closed(page)
    page.wait_for_timeout(700)
    expect_closed(page)
    open_more(page)
    page.keyboard.press("Escape")
    expect_closed(page)
    expect(summary).to_be_focused()


@long("tests/ui/test_controls.py, without the browser")
def test_a_configuration_from_a_file_is_what_the_text_field_and_verify_read(
    app: str, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    visit(page, f"{app}/kv_cache?model=config&context=512")
    page.locator(".st-key-config_text textarea").fill(QWEN.read_text())
    page.locator(".st-key-config_text textarea").press("Control+Enter")
    expect(page.get_by_text("144 KiB").first).to_be_visible()
    page.locator(".st-key-config_file input[type=file]").set_input_files(GPT2)
    expect(page.locator(".st-key-config_text textarea")).to_have_value(re.compile('"gpt2"'))
    page.get_by_role("button", name="Verify", exact=True).click()
    verdict = page.locator("[data-testid=stMetric]").filter(has_text="In the model's own cache")
    expect(verdict).to_contain_text("18.0 MiB", timeout=120_000)
    expect(page.locator("[data-testid=stMetric]").filter(has_text="Verdict")).to_contain_text("exact")
    assert_sound(page)


@long("tests/pages/test_limits.py, without the browser")
def test_a_pasted_text_is_cut_in_words(app: str, page: Page) -> None:
    visit(page, f"{app}/heads_learn?learn_text=Your+own+text+…")
    field = page.locator(".st-key-learn_own textarea")
    field.fill("for x in y: pass\n" * 1000)
    field.press("Control+Enter")
    expect(page.get_by_text("The text had 17,000 characters: the first 4,000 are kept")).to_be_visible()
    expect(page.locator(".st-key-attention .text")).to_contain_text("for x in y")
    assert_sound(page)


@long("tests/ui/test_controls.py, without the browser's half a minute for such a word")
def test_a_pasted_text_of_a_million_characters_is_refused_in_words(app: str, page: Page) -> None:
    visit(page, f"{app}/kv_cache?model=config")
    page.locator(".st-key-config_text textarea").fill("x" * 1_000_001)
    page.locator(".st-key-config_text textarea").press("Control+Enter")
    expect(page.get_by_text("The pasted text has 1,000,001 characters")).to_be_visible()
    assert_sound(page)
