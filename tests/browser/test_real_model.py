"""The real model in a browser: a recorded run, then three columns that write and are stopped, and their link."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server, assert_sound, button, ready, visit
from tests.llm.real import needed
from tests.long import long

PROMPT = "What is the capital of France? Answer in one sentence."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("real")
    running = Server(folder, HEADSHARE_LOCK_DIR=str(folder / "locks"), HEADSHARE_GPU="0")
    yield running
    running.close()


@needed
def test_three_columns_write_are_stopped_and_their_link_shows_them_again(
    new_page: Callable[..., Page], server: Server
) -> None:
    page = visit(new_page(), f"{server.url}/real_model?real_tokens=256&real_prompt={PROMPT}")
    texts = page.get_by_role("region", name=re.compile("What .* writes"))
    expect(texts).to_have_count(3)
    expect(page.get_by_text("A recorded run on")).to_be_visible()
    button(page, "Write").click()
    expect(page.get_by_text("Live on this server")).to_be_visible(timeout=120_000)
    expect(texts.nth(1)).to_contain_text("Paris", timeout=120_000)
    expect(texts.nth(0)).to_contain_text("Paris")
    # two columns end their answer soon; the column with averaged heads does not end, and is stopped
    if (stop := button(page, "Stop")).is_visible():
        stop.click()
    expect(page).to_have_url(re.compile("real_kept=[0-9a-f]{16}"), timeout=60_000)
    own = [texts.nth(i).inner_text() for i in range(3)]
    # the columns take turns token by token, so after a stop one may be a word ahead
    shorter, longer = sorted(own[:2], key=len)
    assert longer.startswith(shorter)
    assert "Paris" in shorter
    assert "Paris" not in own[2]
    assert_sound(ready(page))
    other = visit(new_page(), page.url)
    again = other.get_by_role("region", name=re.compile("What .* writes"))
    for i, text in enumerate(own):
        expect(again.nth(i)).to_have_text(text, use_inner_text=True)
    assert_sound(other)


@needed
@long("tests/pages/test_real_model.py has the recorded view, tests/llm/test_heads.py what is told")
def test_heads_of_an_own_text_are_looked_at_and_a_token_is_chosen(
    new_page: Callable[..., Page], server: Server
) -> None:
    page = visit(new_page(), f"{server.url}/real_model?real_view=heads&real_text=one two three, one two three, one two")
    expect(page.get_by_text("A recorded look")).to_be_visible()
    button(page, "Look").click()
    expect(page.get_by_text("Looked at on this server")).to_be_visible(timeout=120_000)
    expect(page.get_by_role("button", name=re.compile("^Head "))).to_have_count(9)
    text = page.get_by_role("application")
    text.get_by_text("three").last.click()
    expect(page.get_by_text(re.compile(r"Token \d+, “ three”: head \d looks most at token"))).to_be_visible()
    expect(page).to_have_url(re.compile(r"real_token=\d+"), timeout=60_000)
    assert_sound(ready(page))


@needed
@long("tests/pages/test_real_model.py has the recorded view, tests/llm/test_cache_formats.py what is told")
def test_cache_formats_of_an_own_text_arrive_row_by_row_and_their_link_shows_them(
    new_page: Callable[..., Page], server: Server
) -> None:
    page = visit(new_page(), f"{server.url}/real_model?real_view=formats&real_text=one two three, one two three")
    expect(page.get_by_text("Recorded over")).to_be_visible()
    button(page, "Read").click()
    expect(page.get_by_text("Live on this server")).to_be_visible(timeout=120_000)
    expect(page).to_have_url(re.compile("real_formats_kept=[0-9a-f]{16}"), timeout=300_000)
    other = visit(new_page(), page.url)
    expect(other.get_by_text(re.compile("This run: [0-9]+ tokens"))).to_be_visible()
    assert_sound(ready(other))
