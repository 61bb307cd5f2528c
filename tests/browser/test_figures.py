"""Figures in a browser: hover texts can be read, drawings do not move when they first appear, arcs are whole."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Literal
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import eventually, visit
from tests.browser.looks import at_rest

CONTRAST = """() => {
  const light = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(c => c / 255)
      .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = light(getComputedStyle(document.querySelector('.hoverlayer .legend .bg')).fill);
  return [...document.querySelectorAll('.hoverlayer .legend text')].map(text => {
    const ink = light(getComputedStyle(text).fill);
    return [text.textContent, (Math.max(ink, behind) + 0.05) / (Math.min(ink, behind) + 0.05)];
  });
}"""


@pytest.mark.parametrize(
    ("scheme", "address", "key"), [("light", "compare", "compare"), ("dark", "kv_cache", "kv_cache")]
)
def test_a_hover_text_can_be_read(
    app: str, page: Page, scheme: Literal["light", "dark"], address: str, key: str
) -> None:
    page.emulate_media(color_scheme=scheme)
    visit(page, f"{app}/{key}")
    expect(page.locator(f".st-key-{key} .draglayer .nsewdrag").first).to_be_attached()
    at_rest(page)
    box = page.locator(f".st-key-{key} .nsewdrag").bounding_box()
    assert box is not None

    def told() -> bool:
        # between two ticks, where the axis's own heading would be 10.321k
        page.mouse.move(box["x"] + 0.47 * box["width"] + next(moves) % 2, box["y"] + 0.5 * box["height"])
        return page.locator(".hoverlayer .legend text").count() > 1

    moves = itertools.count()
    eventually(page, told)
    lines = page.evaluate(CONTRAST)
    assert all(contrast >= 4.5 for _, contrast in lines), lines
    assert re.fullmatch(r"[\d,]+ tokens", lines[0][0])
    assert all(re.search(r"\d (B|KiB|MiB|GiB|TiB)$", text) for text, _ in lines[1:]), lines


FIRST_FRAMES = """
window.headshareFirst = [];
const look = () => {
  const roots = [...document.querySelectorAll('.stBidiComponent')].flatMap(e => [...e.querySelectorAll('*'), e])
    .filter(e => e.shadowRoot).map(e => e.shadowRoot);
  for (const root of roots) {
    const name = root.host.closest('[class*=st-key-]')?.className;
    for (const [i, rect] of root.querySelectorAll('.bars rect').entries()) {
      const {fill, width} = getComputedStyle(rect);
      window.headshareFirst.push(['bar', fill, width, `${name} ${i}`]);
    }
    const heads = [...root.querySelectorAll('.map .head')].map(e => Math.round(e.getBoundingClientRect().x));
    if (heads.length) window.headshareFirst.push(['map', new Set(heads).size, heads.length]);
  }
  if (window.headshareFirst.length < 200) requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""


def test_what_is_drawn_for_the_first_time_does_not_come_from_elsewhere(app: str, new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.add_init_script(FIRST_FRAMES)
    visit(page, f"{app}/spectrum")
    page.wait_for_function("() => window.headshareFirst.length >= 200")
    seen = page.evaluate("() => window.headshareFirst")
    bars = [entry for entry in seen if entry[0] == "bar"]
    maps = [entry for entry in seen if entry[0] == "map"]
    assert bars
    assert maps
    assert not [fill for _, fill, _, _ in bars if fill == "rgb(0, 0, 0)"]
    # a bar has one length from its first frame on
    lengths: dict[str, set[str]] = {}
    for _, _, width, bar in bars:
        lengths.setdefault(bar, set()).add(width)
    assert len(lengths) >= 3
    assert {bar: widths for bar, widths in lengths.items() if len(widths) > 1} == {}
    assert all(places == heads == 32 for _, places, heads in maps)


@pytest.mark.parametrize("text", ["one line (of text) alone", "first line (a)\nsecond line (b)\nthird (c)"])
def test_arcs_are_drawn_whole(app: str, page: Page, text: str) -> None:
    visit(page, f"{app}/heads_learn?v=1&learn_text=Your%20own&learn_own={quote(text)}")
    expect(page.locator(".st-key-attention .arcs path").first).to_be_attached()
    at_rest(page)
    for at in range(3, len(text), 5):
        page.locator(f".st-key-attention .text span[data-at='{at}']").click()
        above = page.locator(".st-key-attention .view").evaluate(
            """view => {
                const top = view.querySelector('.stage').getBoundingClientRect().top;
                return [...view.querySelectorAll('.arcs path')].map(path => {
                    const wide = Number(path.getAttribute('stroke-width')) / 2;
                    return path.getBoundingClientRect().top - wide - top;
                });
            }"""
        )
        assert all(room >= 0 for room in above), (at, above)


def test_equal_columns_stand_at_one_height(app: str, page: Page) -> None:
    """Falcon 180B has 232 query heads in several rows; its 8 K/V heads stand at one height."""
    visit(page, f"{app}/heads?model={quote('tiiuae/falcon-180B')}")
    kept = page.locator(".st-key-head_map .unit:not(.merged)")
    expect(kept).to_have_count(8)
    at_rest(page)
    tops = kept.evaluate_all("units => units.map(e => Math.round(e.getBoundingClientRect().top))")
    assert len(set(tops)) == 1, tops
