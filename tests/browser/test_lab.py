"""The uptraining lab in a browser: the recorded study, then a run that is watched, left and stopped."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from safetensors.numpy import load

from tests.browser.conftest import Server, assert_sound, button, eventually, ready, visit
from tests.long import long

OLD = "[data-retained=true]"
"""A figure that Streamlit still shows while the next one is drawn."""


@pytest.fixture
def server(app: str, shared_server: Server) -> Server:
    return shared_server


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """A new visitor for each test, because the tests start runs."""
    return new_page()


def curve(page: Page) -> Locator:
    return page.locator(f".st-key-lab_curve:not({OLD})")


def test_a_run_is_watched_left_stopped_and_seen_by_who_opens_its_link(
    page: Page, new_page: Callable[..., Page], server: Server
) -> None:
    visit(page, f"{server.url}/lab?lab_kv=2&lab_alpha=10")
    # before the first run the recorded study is shown
    expect(curve(page)).to_contain_text("GQA-2 by mean pooling, recorded")
    eventually(page, lambda: curve(page).locator(".scatterlayer .point").count() >= 2)
    expect(page.get_by_text("Recorded, not live:").first).to_be_visible()
    expect(page.locator(".st-key-lab_pooling .heatmaplayer .hm")).to_have_count(10)
    assert_sound(page)
    page.get_by_role("button", name="Start", exact=True).click()
    expect(curve(page)).to_contain_text("GQA-2 by mean pooling, live on this server", timeout=60_000)
    status = page.locator(".st-key-lab_status")
    expect(status).to_contain_text(re.compile(r"Step \d+ of 250"), timeout=60_000)
    # the run goes on while the visitor is on another page
    page.get_by_role("link", name="About").click()
    page.wait_for_url(re.compile("/about"))
    ready(page)
    page.get_by_role("link", name="Lab", exact=True).click()
    expect(curve(page)).to_contain_text("live on this server")
    button(page, "Stop").click()
    expect(status).to_contain_text("Stopped after")
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible()
    expect(page).to_have_url(re.compile("lab_kept=[0-9a-f]{16}"))
    assert_sound(ready(page))
    other = visit(new_page(), page.url)
    for key in ("lab_status", "numbers"):
        own = page.locator(f".st-key-{key}").first.inner_text()
        expect(other.locator(f".st-key-{key}").first).to_have_text(own, use_inner_text=True)
    assert_sound(other)


@long("tests/tiny has the same run without a browser")
def test_a_whole_run_hands_over_its_model(page: Page, server: Server) -> None:
    visit(page, f"{server.url}/lab?lab_kv=4&lab_alpha=1")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator(".st-key-lab_status")).to_contain_text("Done in", timeout=120_000)
    expect(page.locator(f".st-key-lab_maps:not({OLD})")).to_contain_text("uptrained")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the model after 25 steps").click()
    arrays = load(Path(download.value.path()).read_bytes())
    assert arrays["model.layers.0.self_attn.k_proj.weight"].shape == (64, 128)
