"""Real walks in Chromium: pages × widths × colours, with a fixed seed and with a random seed that a failure names."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.long import SOAK
from tests.server import ROOT, Server
from tests.walks.browser_walk import FEWEST, walk

SECONDS = 420 if SOAK else 16
STEPS = 5000 if SOAK else 40
STARTS = ["", *sorted(p.stem for p in (ROOT / "pages").glob("*.py"))]

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def visited(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, Server]]:
    server = Server(tmp_path_factory.mktemp("walks"))
    yield browser, server
    server.close()


@pytest.mark.timeout(2 * SECONDS + 300)
@pytest.mark.parametrize("seed", [20260101, None], ids=["fixed", "fresh"])
def test_nothing_is_found(visited: tuple[Browser, Server], seed: int | None) -> None:
    seed = secrets.randbelow(10**6) if seed is None else seed
    done, reports = walk(*visited, seed, STEPS, time.monotonic() + SECONDS, STARTS)
    print(f"seed {seed}: {done} steps")
    assert done >= FEWEST
    assert not reports, f"seed {seed}, {done} steps:\n" + "\n".join(reports)


def test_the_look_finds_what_is_wrong(visited: tuple[Browser, Server], tmp_path: Path) -> None:
    """On a page with one fault of each kind, the check finds all of them."""
    from tests.walks.browser_walk import LOOK

    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><main data-testid=stMain style='width:400px;overflow:auto'>"
        "<p style='width:20px;word-break:break-all'>Accelerator</p>"
        "<div data-testid=stMetricValue><div style='width:30px;overflow:hidden;white-space:nowrap'>"
        "1.0000 GiB</div></div>"
        "<div style='position:relative'><h2 style='position:absolute;top:0'>One thing</h2>"
        "<h3 style='position:absolute;top:0'>upon another</h3></div>"
        "<p>&lt;b&gt;1.0 GiB&lt;/b&gt;</p>"
        "<div style='width:900px;height:9px'></div></main>"
    )
    page = visited[0].new_page()
    page.goto(bad.as_uri())
    said = "\n".join(page.evaluate(LOOK))
    page.close()
    for word in ("broken inside a word", "cut:", "lies upon", "scrolls sideways", "markup is shown"):
        assert word in said, said
