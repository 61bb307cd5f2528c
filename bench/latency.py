"""How long a moved slider takes: on the server, and in Chromium from the key press to the repainted figure.

    python -m bench.latency [--moves 20] [--json FILE] [--no-browser]

A fresh server on loopback, one visitor, nothing else running. The server's time is that of a whole rerun as a
WebSocket client sees it, from the request to the last message; the browser's runs from a key press on the context
slider to the second frame after the figure's data changed (the first is the one it is painted in). First screens:
of a server that was just started ("cold", the process start not counted) and of the same one again ("warm"), until
numbers and controls stand and until the figures do. Medians and 95th percentiles, all of this run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import shutil
import statistics
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.load import server
from bench.session import Session

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "latency.json"
TARGETS = {"server_median_s": 0.060, "browser_median_s": 0.200, "browser_p95_s": 0.400, "warm_s": 1.5, "cold_s": 4.0}
PAGES = {
    # page: (address, key of the slider, key of the figure)
    "Explore": ("", "context_pick", None),
    "Heads": ("heads", "h_kv_pick", None),
    "KV cache": ("kv_cache", "context_pick", "kv_cache"),
    "Compare": ("compare", "context_pick", "compare"),
    "What fits": ("fit", "context_pick", "fit_map"),
}

# What is looked at: a figure's data, shapes and notes, or without a figure's key what
# the page says in its first picture, found through the component's shadow roots.
_LOOK = """
(key) => {
  const deep = (root) => {
    const own = root.querySelector('[role=img][aria-label]');
    if (own) return own.getAttribute('aria-label');
    for (const e of root.querySelectorAll('*')) if (e.shadowRoot) { const s = deep(e.shadowRoot); if (s) return s; }
    return null;
  };
  window.__look = () => {
    if (key) {
      const plot = document.querySelector(`.st-key-${key} .js-plotly-plot`);
      return plot && plot.data ? JSON.stringify([plot.data, plot.layout.shapes, plot.layout.annotations]) : null;
    }
    const plots = [...document.querySelectorAll('.js-plotly-plot')].map((p) => p.data && JSON.stringify(p.data));
    const metrics = [...document.querySelectorAll('[data-testid=stMetricValue]')].map((m) => m.textContent);
    const shown = deep(document.querySelector('[data-testid=stMain]'));
    return shown || plots.length || metrics.length ? JSON.stringify([shown, plots, metrics]) : null;
  };
  window.__arm = () => {
    const before = window.__look();
    window.__took = null;
    const onKey = () => {
      const start = performance.now();
      const watch = () => {
        if (window.__look() !== before) {
          requestAnimationFrame(() => { window.__took = performance.now() - start; });
        } else if (performance.now() - start < 10000) requestAnimationFrame(watch);
        else window.__took = -1;
      };
      requestAnimationFrame(watch);
    };
    window.addEventListener('keydown', onKey, { once: true, capture: true });
  };
}
"""


def _spread(seconds: list[float]) -> dict[str, float]:
    return {
        "median_s": statistics.median(seconds),
        "p95_s": statistics.quantiles(seconds, n=20, method="inclusive")[-1] if len(seconds) > 1 else seconds[0],
        "n": len(seconds),
    }


async def server_times(address: str, path: str, moves: int) -> list[float]:
    """Seconds of reruns, each after a slider was moved; the first two runs only warm up."""
    rng = random.Random(0)
    async with Session(address, f"/{path}") as session:
        for _ in range(2):
            await session.rerun()
        taken = []
        for _ in range(moves):
            if not session.move(rng):
                raise SystemExit(f"/{path} has no slider to move")
            taken.append(await session.rerun())
    return taken


def first_screen(browser: Any, url: str) -> dict[str, float]:
    """Seconds until the first page can be used (its numbers and controls stand) and until its figures stand too, in a
    new visitor's tab, whose browser has none of the front end's files."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    started = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_selector("[data-testid=stMetricValue]", timeout=60_000)
    usable = time.perf_counter() - started
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=60_000)
    page.wait_for_function(
        "() => !document.querySelector('[data-testid=stSkeleton]') && "
        "document.querySelectorAll('.js-plotly-plot .main-svg').length > 0"
    )
    complete = time.perf_counter() - started
    context.close()
    return {"usable_s": usable, "complete_s": complete}


def browser_times(browser: Any, url: str, slider: str, figure: str | None, moves: int) -> list[float]:
    """Seconds from a key press on the slider to the repainted figure."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=60_000)
    page.wait_for_timeout(1500)
    page.evaluate(_LOOK, figure)
    thumb = page.locator(f".st-key-{slider}").get_by_role("slider").first
    taken = []
    for move in range(moves + 2):
        thumb.focus()
        page.evaluate("() => window.__arm()")
        # to and fro, so that no end of the slider is met
        page.keyboard.press("ArrowRight" if move % 2 == 0 else "ArrowLeft")
        page.wait_for_function("() => window.__took !== null", timeout=20_000)
        took = page.evaluate("() => window.__took")
        if took < 0:
            raise SystemExit(f"{url}: nothing changed within ten seconds of a key press")
        if move >= 2:
            taken.append(took / 1e3)
        page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
        page.wait_for_timeout(250)
    context.close()
    return taken


def measure(moves: int, with_browser: bool) -> dict[str, Any]:
    """Everything, on one fresh server."""
    result: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": platform.processor() or platform.machine(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("streamlit", "plotly")},
        "targets": TARGETS,
        "pages": {},
    }
    with server() as (address, _process):
        if with_browser:
            _with_browser(result, address, moves)
        for name, (path, _, _) in PAGES.items():
            times = asyncio.run(server_times(address, path, moves))
            result["pages"].setdefault(name, {})["server"] = _spread(times)
    return result


def _with_browser(result: dict[str, Any], address: str, moves: int) -> None:
    from playwright.sync_api import sync_playwright

    path_of = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path_of, args=["--no-sandbox", "--disable-gpu"])
        result["versions"]["chromium"] = browser.version
        cold = first_screen(browser, f"http://{address}/")
        warm = [first_screen(browser, f"http://{address}/") for _ in range(3)]
        result["first_screen"] = {
            "cold": cold,
            "warm": {name: statistics.median(one[name] for one in warm) for name in cold},
        }
        for name, (path, slider, figure) in PAGES.items():
            times = browser_times(browser, f"http://{address}/{path}", slider, figure, moves)
            result["pages"].setdefault(name, {})["browser"] = _spread(times)
        browser.close()


def table(result: dict[str, Any]) -> str:
    """The result as lines of text."""
    lines = [f"{'page':<10} {'server median':>14} {'p95':>8} {'browser median':>15} {'p95':>8}"]
    for name, row in result["pages"].items():
        cells = [_ms(row.get("server"), "median_s"), _ms(row.get("server"), "p95_s")]
        cells += [_ms(row.get("browser"), "median_s"), _ms(row.get("browser"), "p95_s")]
        lines.append(f"{name:<10} {cells[0]:>14} {cells[1]:>8} {cells[2]:>15} {cells[3]:>8}")
    if screens := result.get("first_screen"):
        lines += [
            f"first screen, {name} server: usable {one['usable_s']:.2f} s, complete {one['complete_s']:.2f} s"
            for name, one in screens.items()
        ]
    return "\n".join(lines)


def _ms(spread: dict[str, float] | None, key: str) -> str:
    return "–" if spread is None else f"{1e3 * spread[key]:.0f} ms"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--moves", type=int, default=20)
    parser.add_argument("--json", type=Path, default=RESULTS, help="file to write; default %(default)s")
    parser.add_argument("--no-browser", action="store_true")
    args = parser.parse_args(argv)
    result = measure(args.moves, not args.no_browser)
    print(table(result))
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
