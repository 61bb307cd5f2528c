"""Heads: the slider moves the same elements, a head lights its group, the keyboard works, links restore the view."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.conftest import Server, assert_sound, eventually, visit

MAP = ".st-key-head_map"


def test_slider_moves_the_same_elements(app: str, page: Page) -> None:
    visit(page, f"{app}/heads")
    expect(page.get_by_role("img", name="32 query heads share 8")).to_be_visible()
    page.locator(f"{MAP} .head").first.evaluate("element => { element.dataset.mark = 'kept'; }")
    before = page.locator(f"{MAP} .unit:not(.merged)").count()
    page.locator(".st-key-h_kv_pick").get_by_role("slider").press("ArrowRight")
    expect(page.get_by_role("img", name="32 query heads share 16 K/V heads, 2 to each")).to_be_visible()
    expect(page.locator(f"{MAP} .unit:not(.merged)")).to_have_count(16)
    assert before == 8
    assert page.locator(f"{MAP} .head[data-mark=kept]").count() == 1
    duration = page.locator(f"{MAP} .head").first.evaluate("e => getComputedStyle(e).transitionDuration")
    assert duration.startswith("0.5s")
    expect(page).to_have_url(re.compile("h_kv=16"))
    page.reload()
    expect(page.get_by_role("img", name="share 16 K/V heads")).to_be_visible()


def test_reduced_motion(app: str, page: Page) -> None:
    page.emulate_media(reduced_motion="reduce")
    visit(page, f"{app}/heads")
    moves = page.locator(f"{MAP} .head").first.evaluate("e => getComputedStyle(e).transitionProperty")
    assert moves == "none"


def test_pointer_and_keyboard_light_a_group(app: str, page: Page) -> None:
    visit(page, f"{app}/heads")
    readout = page.locator(f"{MAP} .readout")
    page.locator(f"{MAP} .head").nth(9).hover()
    expect(readout).to_have_text("Query heads 8–11 read K/V head 2.")
    expect(page.locator(f"{MAP} .head:not(.dim)")).to_have_count(4)
    page.mouse.move(5, 5)
    expect(page.locator(f"{MAP} .head.dim")).to_have_count(0)
    stage = page.locator(f"{MAP} .stage")
    stage.focus()
    stage.press("End")
    expect(stage).to_have_attribute("aria-valuetext", "Query heads 28–31 read K/V head 7.")
    stage.press("ArrowLeft")
    expect(readout).to_have_text("Query heads 24–27 read K/V head 6.")
    stage.press("Escape")
    expect(page.locator(f"{MAP} .head.dim")).to_have_count(0)


def test_decode_steps(app: str, page: Page) -> None:
    visit(page, f"{app}/heads?context=4096")
    page.get_by_role("radio", name="3 Read").click()
    expect(page.get_by_text("compares its query with the 4,096 keys")).to_be_visible()
    expect(page.locator(f"{MAP} svg.s3")).to_have_count(1)
    expect(page).to_have_url(re.compile("h_step=3"))
    assert_sound(page)


def test_link_to_a_distinct_layer_as_first_request(
    cold_server: Callable[..., Server], new_page: Callable[..., Page]
) -> None:
    page = new_page()
    visit(page, f"{cold_server().url}/heads?model=google/gemma-3-27b-pt&context=32768&h_layer=1&h_kv=4&h_step=2")
    expect(page.get_by_role("img", name="32 query heads share 4 K/V heads, 8 to each")).to_be_visible()
    expect(page.get_by_text("behind the 32,767 tokens already there")).to_be_visible()
    expect(page.locator(".st-key-h_layer").get_by_role("combobox")).to_have_value("full · 16 K/V heads · 10 layers")
    assert_sound(page)


def test_many_heads_on_a_phone(app: str, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    visit(page, f"{app}/heads?model=custom&heads=128&kv_heads=128&head_dim=8&layers=1")
    expect(page.locator(f"{MAP} .unit:not(.merged)")).to_have_count(128)

    def fits() -> bool:
        boxes = page.locator(f"{MAP} .head circle").evaluate_all(
            "dots => dots.map(d => d.getBoundingClientRect()).map(r => [r.x, r.right, r.width])"
        )
        return all(x >= 0 and right <= 390 and width >= 5 for x, right, width in boxes)

    eventually(page, fits)
    assert_sound(page)


def test_a_model_without_heads(app: str, page: Page) -> None:
    visit(page, f"{app}/heads?model=state-spaces/mamba-130m-hf")
    assert_sound(page)
