"""Explore: the first screen, its address, and a timing run to its end and one that is stopped."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server, assert_sound, button, go_back, go_forward, ready, visit
from tests.long import long

CACHE = ".st-key-cache .hs-value"


def pick_model(page: Page, name: str) -> None:
    box = page.locator(".st-key-model input")
    box.click()
    box.fill(name)
    page.get_by_role("option").first.click()


def test_first_screen_tells_the_story(app: str, page: Page) -> None:
    visit(page, app)
    expect(page.locator(CACHE).first).to_have_text("1.00 GiB")
    expect(page.get_by_text("4.00× smaller than MHA")).to_be_visible()
    expect(page.get_by_role("img", name="32 query heads share 8 K/V heads, 4 to each")).to_be_visible()
    # the whole main figure is visible at 1280 × 800 without scrolling
    box = page.locator(".st-key-head_map").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 800
    assert_sound(page)


def test_a_moved_slider_changes_figure_and_address_and_reload_restores(app: str, page: Page) -> None:
    visit(page, app)
    page.locator(".st-key-context_pick").get_by_role("slider").press("ArrowRight")
    expect(page.locator(CACHE).first).to_have_text("2.00 GiB")
    expect(page).to_have_url(re.compile("context=16384"))
    page.reload()
    ready(page)
    expect(page.locator(CACHE).first).to_have_text("2.00 GiB")
    page.go_back()
    expect(page.locator(CACHE).first).to_have_text("1.00 GiB")


SEEN = """() => new Promise(done => {
    const seen = [];
    const look = () => {
        const text = document.querySelector('.st-key-cache .hs-value')?.textContent;
        if (text && text !== seen.at(-1)) seen.push(text);
        if (seen.slice(-2).join() === '128 MiB,1.00 GiB' || performance.now() > 20000) done(seen);
        else setTimeout(look, 20);
    };
    look();
})"""


def test_on_arrival_heads_merge_while_the_cache_falls_once(app: str, new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.goto(app)
    # before the animation begins, the page's own number may have been there, still hidden
    assert page.evaluate(SEEN)[-4:] == ["4.00 GiB", "1.00 GiB", "128 MiB", "1.00 GiB"]
    ready(page)
    expect(page.get_by_role("img", name="32 query heads share 8 K/V heads")).to_be_visible()
    page.wait_for_timeout(1000)
    expect(page.locator(CACHE)).to_have_text("1.00 GiB")
    assert page.evaluate("window.headshareSharing") is None
    shift = page.evaluate("""() => new Promise(done => new PerformanceObserver(list => done(
        list.getEntries().filter(e => !e.hadRecentInput).reduce((sum, e) => sum + e.value, 0)
    )).observe({type: 'layout-shift', buffered: true}) || setTimeout(() => done(0), 500))""")
    assert shift < 0.1
    # the number may be drawn after the map has told its first sharing: it then begins with that one
    page.evaluate("window.headshareSharing = 1")
    page.locator(".st-key-context_pick").get_by_role("slider").press("ArrowRight")
    expect(page.locator(CACHE)).to_have_text("256 MiB")
    # a visitor who asked for less motion sees the model at once
    still = new_page(reduced_motion="reduce")
    visit(still, app)
    assert still.evaluate("window.headshareArrived") is None
    expect(still.locator(CACHE)).to_have_text("1.00 GiB")


def test_the_slider_under_the_map_moves_everything_and_any_touch_ends_the_arrival(
    app: str, new_page: Callable[..., Page]
) -> None:
    page = visit(new_page(), app)
    slider = page.locator(".st-key-e_kv_pick").get_by_role("slider")
    slider.press("ArrowLeft")
    expect(page.locator(CACHE)).to_have_text("512 MiB")
    expect(page.get_by_text("8.00× smaller than MHA")).to_be_visible()
    expect(page.get_by_role("img", name="32 query heads share 4 K/V heads")).to_be_visible()
    expect(page.get_by_text("share 4 K/V heads, and the cache is 8.00× smaller")).to_be_visible()
    expect(page).to_have_url(re.compile("e_kv=4"))
    page.reload()
    ready(page)
    expect(page.get_by_role("img", name="32 query heads share 4 K/V heads")).to_be_visible()
    assert_sound(page)


def test_a_picked_model(app: str, page: Page) -> None:
    visit(page, app)
    pick_model(page, "Llama 2 7B")
    expect(page).to_have_url(re.compile("model=meta-llama%2FLlama-2-7b-hf"))
    expect(page.get_by_role("img", name="32 query heads, each with a K/V head of its own")).to_be_visible()


@long("tests/browser/test_heads.py, of another page")
def test_link_restores_everything_as_first_request(
    cold_server: Callable[..., Server], new_page: Callable[..., Page]
) -> None:
    page = new_page()
    server = cold_server()
    visit(page, f"{server.url}/?v=1&model=custom&layers=3&heads=12&kv_heads=4&head_dim=64&context=5000&batch=7&kv=fp8")
    # 3 layers x 4 heads x (64 + 64) x 5,000 x 7 x 1 byte
    expect(page.locator(CACHE).first).to_have_text("51.3 MiB")
    expect(page.get_by_role("img", name="12 query heads share 4 K/V heads")).to_be_visible()
    assert_sound(page)


def test_junk_is_named_and_replaced(app: str, page: Page) -> None:
    visit(page, f"{app}/?model=%3Cscript%3Ealert(1)%3C/script%3E&context=0&batch=1e9&kv=%00&nonsense=1")
    notice = page.locator(".st-key-notice")
    for word in ("model", "context", "batch", "kv"):
        expect(notice).to_contain_text(f"{word}:")
    expect(notice).not_to_contain_text("nonsense")
    expect(page.locator(CACHE).first).to_have_text("1.00 GiB")
    assert_sound(page)


def test_copy_link(app: str, new_page: Callable[..., Page]) -> None:
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    visit(page, f"{app}/?context=4096&batch=3")
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Link copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.url
    assert {"v=1", "context=4096", "batch=3", "kv=bf16"} <= set(copied.split("?")[1].split("&"))


def test_embedded_shows_the_figure_alone(app: str, new_page: Callable[..., Page]) -> None:
    page = new_page()
    visit(page, f"{app}/?embed=true")
    expect(page.get_by_role("img", name="query heads")).to_be_visible()
    expect(page.locator(".st-key-model")).to_be_hidden()
    expect(page.get_by_role("link", name="Heads", exact=True)).to_have_count(0)


def test_typed_sizes_that_make_no_model_are_explained(app: str, page: Page) -> None:
    visit(page, f"{app}/?model=config")
    expect(page.get_by_text("Paste the config.json of a model")).to_be_visible()
    page.get_by_label("A published config.json").fill('{"model_type": "llama"')
    page.get_by_label("A published config.json").press("Control+Enter")
    expect(page.locator("[data-testid=stAlert]")).to_contain_text(re.compile("config", re.IGNORECASE))
    assert_sound(page)


@pytest.mark.slow
@long("the same of the Lab's and of Timings' runs")
def test_a_run_is_seen_by_who_opens_its_link_and_another_is_stopped(app: str, new_page: Callable[..., Page]) -> None:
    page = new_page(viewport={"width": 390, "height": 844})
    # a small shape, so that the run takes only seconds
    visit(page, f"{app}/?model=custom&layers=2&heads=6&kv_heads=3&head_dim=16&context=64")
    button(page, "Run").click()
    expect(button(page, "Stop")).to_be_visible()
    expect(page.get_by_text(re.compile(r"Done in"))).to_be_visible(timeout=120_000)
    expect(page).to_have_url(re.compile("e_kept=[0-9a-f]{16}"))
    figure = page.locator(".st-key-times[data-stale=false]")  # for a moment the figure before it is there too
    for name in ("MHA", "GQA-3", "MQA"):
        expect(figure).to_contain_text(name)
    expect(figure).to_contain_text(re.compile(r"\d (ms|µs)"))
    expect(page.get_by_text("Measured on")).to_be_visible()

    other = visit(new_page(), page.url)
    own = page.locator(".st-key-explore_status").inner_text()
    expect(other.locator(".st-key-explore_status")).to_have_text(own, use_inner_text=True)
    times = page.locator(".st-key-times svg").last.get_attribute("aria-label")
    expect(other.locator(".st-key-times svg").last).to_have_attribute("aria-label", str(times))
    # the view before the run shows no run
    go_back(page)
    expect(page).not_to_have_url(re.compile("e_kept"))
    expect(page.get_by_text("Measured on")).to_have_count(0)
    go_forward(page)
    expect(page.get_by_text("Measured on")).to_be_visible()
    assert_sound(page)

    visit(other, f"{app}/?model=meta-llama/Llama-3.1-8B&context=8192")
    button(other, "Run").click()
    button(other, "Stop").click()
    expect(other.get_by_text(re.compile("Stopped after"))).to_be_visible(timeout=60_000)
    expect(button(other, "Run")).to_be_enabled()
    assert_sound(other)
