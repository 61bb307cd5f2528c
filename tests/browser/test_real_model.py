"""The real model in a real browser: a recorded run, then three columns that write, are stopped, and their link."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server, assert_sound, button, ready, visit
from tests.llm.real import needed

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
    # two of the columns end their answer soon; averaged heads never come to an end, and are stopped
    if (stop := button(page, "Stop")).is_visible():
        stop.click()
    expect(page).to_have_url(re.compile("real_kept=[0-9a-f]{16}"), timeout=60_000)
    own = [texts.nth(i).inner_text() for i in range(3)]
    # the columns take turns token by token: stopped, one may be a word ahead
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
