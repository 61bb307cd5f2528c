"""The computing pages in a browser: a control changes figure and address, links restore a view, data are downloaded."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import assert_sound, eventually, visit
from tests.long import short

LLAMA, QWEN, GEMMA = "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-8B", "google/gemma-3-27b-pt"


SHOWN = "JSON.stringify([e.data, e.layout.shapes, e.layout.annotations])"
"""JavaScript: the parts of a Plotly figure that a control changes: data, shapes and annotations."""


def figure_json(page: Page, key: str) -> str:
    """The content of a drawn Plotly figure, as text."""
    drawn = page.locator(f".st-key-{key} .js-plotly-plot")
    expect(drawn.locator(".main-svg").first).to_be_visible()
    return str(drawn.evaluate(f"e => {SHOWN}"))


def expect_redrawn(page: Page, key: str, before: str) -> None:
    page.wait_for_function(
        "([key, before]) => { const e = document.querySelector(`.st-key-${key} .js-plotly-plot`);"
        f" return e && e.data && {SHOWN} !== before; }}",
        arg=[key, before],
    )


@pytest.mark.parametrize(
    ("path", "figure"),
    short([("kv_cache", "kv_cache"), ("compare", "compare"), ("fit", "fit_map")], [("kv_cache", "kv_cache")]),
)
def test_a_slider_moves_figure_and_address_and_a_reload_restores_both(
    app: str, page: Page, path: str, figure: str
) -> None:
    visit(page, f"{app}/{path}?{urlencode({'model': LLAMA, 'context': 8192})}")
    before = figure_json(page, figure)
    page.locator(".st-key-context_pick").get_by_role("slider").press("ArrowRight")
    expect_redrawn(page, figure, before)
    expect(page).to_have_url(re.compile("context=16384"))
    after = figure_json(page, figure)
    page.reload()
    expect_redrawn(page, figure, before)
    assert figure_json(page, figure) == after
    assert_sound(page)


def test_hero_figures_are_in_view_without_scrolling(app: str, page: Page) -> None:
    for path, figure in (
        ("kv_cache", "kv_cache"),
        ("compare", "compare"),
        ("fit", "fit_map"),
        ("accuracy", "accuracy"),
    ):
        visit(page, f"{app}/{path}")
        figure_json(page, figure)
        box = page.locator(f".st-key-{figure} .js-plotly-plot").bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 800, (path, box)
        # the controls stand in one row
        ends = page.locator(".st-key-bar [data-testid=stColumn]").evaluate_all(
            "all => all.map(e => e.getBoundingClientRect().bottom)"
        )
        assert max(ends) - min(ends) < 20, (path, ends)


def test_a_ranked_bar_fades_the_lines_of_other_models(app: str, page: Page) -> None:
    visit(page, f"{app}/compare?{urlencode([('cmp', LLAMA), ('cmp', QWEN), ('cmp', GEMMA), ('context', 32768)])}")
    figure_json(page, "compare")
    bars = page.locator(".st-key-cmp_ranking li")
    faded = """e => [...e.querySelectorAll('.scatterlayer > .trace, .infolayer .annotation')].map(
        part => [part.__data__?.[0]?.trace?.name ?? part.textContent, part.style.opacity === '0.12'])"""
    figure = page.locator(".st-key-compare .js-plotly-plot")

    def others_fade(one: str) -> Callable[[], bool]:
        def holds() -> bool:
            parts = [(name, is_faded) for name, is_faded in figure.evaluate(faded) if name]
            named = [(name, is_faded) for name, is_faded in parts if any(m in name for m in ("Llama", "Qwen", "Gemma"))]
            return len(named) >= 6 and all(is_faded == (one not in name) for name, is_faded in named)

        return holds

    bars.filter(has_text="Gemma 3 27B").focus()
    eventually(page, others_fade("Gemma"))
    bars.filter(has_text="Llama 3.1 8B").hover()
    eventually(page, others_fade("Llama"))
    page.mouse.move(1, 1)
    bars.filter(has_text="Gemma 3 27B").blur()
    eventually(page, lambda: not any(is_faded for _, is_faded in figure.evaluate(faded)))


def test_three_models_compared_by_a_link_and_taken_away(app: str, page: Page, tmp_path: Path) -> None:
    query = urlencode([("cmp", LLAMA), ("cmp", f"{QWEN}~fp8"), ("cmp", GEMMA), ("context", 32768)])
    visit(page, f"{app}/compare?{query}")
    for name in ("Llama 3.1 8B", "Qwen3 8B · fp8", "Gemma 3 27B"):
        expect(page.locator(".st-key-cmp").get_by_text(name, exact=True)).to_be_visible()
        assert name in figure_json(page, "compare")
    with page.expect_download() as download:
        page.locator(".st-key-compare_csv button").click()
    file = tmp_path / "compare.csv"
    download.value.save_as(file)
    with file.open(newline="", encoding="utf-8") as rows:
        table = list(csv.DictReader(rows))
    assert [row["key"] for row in table] == [LLAMA, f"{QWEN}~fp8", GEMMA]
    assert int(table[0]["state_bytes"]) == 131_072 * 32_768
    before = figure_json(page, "compare")
    page.locator(".st-key-cmp").get_by_role("button", name=re.compile("Gemma 3 27B")).first.click()
    expect_redrawn(page, "compare", before)
    expect(page).not_to_have_url(re.compile("gemma"))
    assert_sound(page)


def test_an_assumption_changes_what_fits(app: str, page: Page) -> None:
    visit(page, f"{app}/fit?{urlencode({'model': LLAMA})}")
    memory = page.locator(".st-key-fit_memory svg")
    expect(memory).to_have_attribute("aria-label", re.compile("Of 74.5 GiB: weights 15.0 GiB"))
    before = memory.get_attribute("aria-label")
    page.locator(".st-key-f_util").get_by_role("slider").press("ArrowLeft")
    expect(memory).not_to_have_attribute("aria-label", before or "")
    expect(page).to_have_url(re.compile("f_util=89"))
