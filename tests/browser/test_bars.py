"""Bars in a browser: their lengths are to scale, nothing is cut off on a phone, a saved picture looks the same."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import eventually, visit

MODEL = "v=1&model=meta-llama%2FLlama-3.1-8B&context=8192&batch=1&kv=bf16"


def lengths(drawing: Locator) -> list[float]:
    found: list[float] = drawing.locator("rect.bar").evaluate_all(
        "all => all.map(e => e.getBoundingClientRect().width)"
    )
    return found


def bar_lengths_are(page: Page, drawing: Locator, expected: list[float]) -> None:
    """Wait until the moving bars have the lengths `expected`, relative to the longest."""

    def as_expected() -> bool:
        found = lengths(drawing)
        return len(found) == len(expected) and [n / max(found) for n in found] == pytest.approx(expected, abs=0.01)

    eventually(page, as_expected)


@pytest.mark.parametrize("width", [1280, 390])
def test_bars_are_to_scale_and_whole(app: str, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    visit(page, f"{app}/kv_cache?{MODEL}")
    drawing = page.locator(".st-key-kv_variants svg")
    expect(drawing).to_have_attribute("aria-label", re.compile("MHA 4.00 GiB, GQA-8 1.00 GiB"))
    bar_lengths_are(page, drawing, [1, 1 / 4, 1 / 8, 1 / 32])
    for key in ("kv_variants", "kv_allocation"):
        outside = page.locator(f".st-key-{key} svg").evaluate(
            """svg => { const own = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('text')].map(e => e.getBoundingClientRect())
                .filter(box => box.left < own.left - 1 || box.right > own.right + 1).length; }"""
        )
        assert outside == 0


def test_bars_move_with_their_control(app: str, page: Page) -> None:
    visit(page, f"{app}/?{MODEL}")
    drawing = page.locator(".st-key-ways svg")
    bar_lengths_are(page, drawing, [1, 1 / 4, 1 / 32])
    page.locator(".st-key-model input").click()
    page.locator(".st-key-model input").fill("Llama 2 70B")
    page.get_by_role("option", name="Llama 2 70B GQA-8", exact=True).first.click()
    bar_lengths_are(page, drawing, [1, 1 / 8, 1 / 64])


@pytest.mark.parametrize(("key", "words"), [("ways", "GQA-8"), ("head_map", "32 query heads")])
def test_a_picture_is_saved_as_it_looks(app: str, page: Page, tmp_path: Path, key: str, words: str) -> None:
    page.emulate_media(color_scheme="dark")
    visit(page, f"{app}/?{MODEL}")
    part = page.locator(f".st-key-{key}")
    part.hover()
    with page.expect_download() as saved:
        part.get_by_role("button", name="SVG").click()
    file = tmp_path / saved.value.suggested_filename
    saved.value.save_as(file)
    assert file.suffix == ".svg"
    picture = ET.fromstring(file.read_bytes())
    tag = "{http://www.w3.org/2000/svg}"
    assert picture.tag == f"{tag}svg"
    texts = [text for text in picture.iter(f"{tag}text") if text.text]
    assert words in [text.text for text in texts]
    # the file has no style sheet: its elements carry their own styles
    assert texts[0].get("fill") == "rgb(230, 235, 236)"
    ground = next(picture.iter(f"{tag}rect"))
    assert ground.get("fill") == "#11171a"

    with page.expect_download() as saved:
        part.get_by_role("button", name="PNG").click()
    file = tmp_path / saved.value.suggested_filename
    saved.value.save_as(file)
    raw = file.read_bytes()
    assert raw.startswith(b"\x89PNG")
    # twice as many pixels as on the screen
    assert int.from_bytes(raw[16:20]) == pytest.approx(2 * float(picture.attrib["width"]), abs=1)
