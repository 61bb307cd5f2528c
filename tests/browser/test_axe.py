"""axe-core finds no violation in our own markup on any page, light or dark.

A new file in ``pages/`` is included by itself. ``make soak`` checks both colour schemes; ``test_layout`` checks every
page in one of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import visit
from tests.long import long
from tests.server import ROOT

PAGES = ["", *sorted(p.stem for p in (ROOT / "pages").glob("*.py"))]
SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")

BASELINE = {
    # Streamlit's own markup, which an app cannot reach
    "svg-img-alt": "[data-testid='stMetricChart'] svg, [data-testid='stIconMaterial'] svg",
    "empty-table-header": "[data-testid='stDataFrame'] th",
    "aria-allowed-attr": "[data-testid='stDataFrame'] canvas",
    "scrollable-region-focusable": "[data-testid='stDataFrame'] *",
}
"""Rule -> the elements of Streamlit that may break it."""


def violations(page: Page) -> list[str]:
    """The violations that axe finds outside the baseline, one line per element."""
    found = []
    for violation in Axe().run(page).response["violations"]:
        allowed = BASELINE.get(violation["id"])
        for node in violation["nodes"]:
            target = node["target"][0]
            selector = target if isinstance(target, str) else " ".join(target)
            if allowed and page.evaluate("([s, a]) => !!document.querySelector(s)?.matches(a)", [selector, allowed]):
                continue
            why = " ".join(node.get("failureSummary", "").split())
            found.append(f"{violation['id']}: {selector} | {node['html'][:160]} | {why[:200]}")
    return found


@long("tests/browser/test_layout.py asks it of every page in one of them")
@pytest.mark.parametrize(("name", "scheme"), [(name, scheme) for name in PAGES for scheme in SCHEMES])
def test_nothing_of_ours(app: str, page: Page, name: str, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)
    visit(page, f"{app}/{name}")
    expect(page.locator("h1")).to_have_count(1)
    expect(page.locator("[data-testid=stApp]")).to_have_css("color-scheme", scheme)
    assert violations(page) == []


def test_the_check_can_fail(page: Page, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<!doctype html><html lang=en><title>x</title><main><h1>x</h1><img src=x.png></main>")
    page.goto(bad.as_uri())
    assert [line.split(":")[0] for line in violations(page)] == ["image-alt"]
