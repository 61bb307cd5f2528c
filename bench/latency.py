"""How long a step of a slider takes, on the server and in Chromium until the figure is repainted; and first screens.

    python -m bench.latency [--moves 20] [--visits 5] [--pages NAME …] [--json FILE] [--no-browser]

One visitor uses a fresh server on loopback, nothing else runs, and no inspector is attached to the browser (see
``bench/browser.py``). The server's time is the time of a whole rerun as a WebSocket client sees it, from the request to
the last message. The browser's time runs from a step of the slider, with the page at rest, to the frame that shows
another figure (on a page without a figure: another picture or number). First screens are timed on a server that has
just started ("cold"; the start of the process does not count) and on the same server again ("warm"), until numbers and
controls are drawn ("usable") and until the figures are drawn ("complete"). The same is done without
``ui/server/front_end.py``. The command gives medians and 95th percentiles of this one run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import browser, files
from bench.load import server
from bench.session import Session

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "latency.json"
TARGETS = {"server_median_s": 0.060, "browser_median_s": 0.100, "browser_p95_s": 0.400, "warm_s": 1.5, "cold_s": 4.0}
PAGES = {
    # page: (address, key of the slider, key of the figure)
    "Explore": ("", "context_pick", None),
    "Heads": ("heads", "h_kv_pick", None),
    "KV cache": ("kv_cache", "context_pick", "kv_cache"),
    "Compare": ("compare", "context_pick", "compare"),
    "What fits": ("fit", "context_pick", "fit_map"),
    "MHA – GQA – MQA": ("spectrum", "spec_kv_pick", "spectrum_costs"),
    "Why share?": ("why", "context_pick", "why_traffic"),
    "Published results": ("published", "context_pick", "pub_models"),
    "Roofline": ("roofline", "context_pick", "r_figure"),
    "With a cache": ("with_cache", "context_pick", None),
    "Latent and windows": ("other_ways", "context_pick", None),
    "Engines": ("engines", "context_pick", None),
}

_FIRST_SCREEN = """
const metrics = '[data-testid=stMetricValue]', controls = '[data-testid=stSlider]';
let usable = null, complete = null;
const drawings = () => [...document.querySelectorAll('.st-key-head_map *, .st-key-ways *')]
  .map((e) => e.shadowRoot?.querySelector('svg')).filter((svg) => svg?.firstElementChild);
const look = async () => {
  if (!there(metrics) || !there(controls)) return;
  if (usable === null) { usable = 0; usable = await painted(); }
  if (complete === null && usable && drawings().length === 2 && done()) {
    complete = 0;
    complete = await painted();
    report({ usable_s: usable / 1e3, complete_s: complete / 1e3 });
  }
};
// look in every frame: an observer outside a component does not see changes inside it
const watch = () => { look(); if (complete === null) requestAnimationFrame(watch); };
watch();
"""

_MOVES = """
const figure = FIGURE;
const range = () => document.querySelector('.st-key-SLIDER input[type=range]');
const pictures = () => {
  const main = document.querySelector('[data-testid=stMain]');
  if (figure) return [...main.querySelectorAll(`.st-key-${figure} .js-plotly-plot`)];
  const roots = [...main.querySelectorAll('*')].map((e) => e.shadowRoot).filter(Boolean);
  return [...roots, ...main.querySelectorAll('[data-testid=stMetricValue], .js-plotly-plot')];
};
await until(() => document.body && range() && done() && pictures().length);
await pause(1500);
const taken = [];
for (let move = 0; move < MOVES + 2; move++) {
  const step = range();
  // up and down in turn, so that the slider stays away from its ends
  const up = move % 2 === 0 ? Number(step.max) > Number(step.value) : Number(step.min) >= Number(step.value);
  const changed = new Promise((then) => {
    const watching = new MutationObserver(() => { watching.disconnect(); then(); });
    for (const picture of pictures())
      watching.observe(picture, { subtree: true, childList: true, attributes: true, characterData: true });
  });
  const key = { key: up ? 'ArrowRight' : 'ArrowLeft', bubbles: true, cancelable: true };
  step.focus();
  const start = performance.now();
  // a script cannot press an arrow key: change the value and send the events that the key would send
  step.dispatchEvent(new KeyboardEvent('keydown', key));
  step.value = Number(step.value) + (up ? 1 : -1);
  for (const name of ['input', 'change']) step.dispatchEvent(new Event(name, { bubbles: true }));
  step.dispatchEvent(new KeyboardEvent('keyup', key));
  await changed;
  const took = await painted() - start;
  if (move >= 2) taken.push(took / 1e3);
  await until(done);
  await pause(600);  // the head map moves for half a second; the next step begins with the page at rest
}
report(taken);
"""


def _spread(seconds: list[float]) -> dict[str, float]:
    return {
        "median_s": statistics.median(seconds),
        "p95_s": statistics.quantiles(seconds, n=20, method="inclusive")[-1] if len(seconds) > 1 else seconds[0],
        "n": len(seconds),
    }


async def server_times(address: str, path: str, moves: int) -> list[float]:
    """Seconds of `moves` reruns, each after a slider was moved. Two runs before them warm up and do not count.

    Raises:
        SystemExit: the page has no slider.
    """
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


def first_screens(visits: int, *scripts: str) -> list[dict[str, dict[str, float]]]:
    """Seconds until the first page is usable and until it is complete, on a server for each script.

    The servers are visited in turn; the first visit to each is "cold".
    """
    with ExitStack() as servers:
        addresses = [servers.enter_context(server(script))[0] for script in scripts]
        found: list[list[dict[str, float]]] = [[] for _ in scripts]
        for turn in range(visits + 1):
            order = list(zip(addresses, found, strict=True))
            for address, own in order if turn % 2 == 0 else reversed(order):
                own.append(browser.visit(f"http://{address}/", _FIRST_SCREEN))
    return [
        {
            "cold": cold,
            "warm": {name: statistics.median(one[name] for one in warm) for name in cold},
            "warm_worst": {name: max(one[name] for one in warm) for name in cold},
        }
        for cold, *warm in found
    ]


def browser_times(url: str, slider: str, figure: str | None, moves: int) -> list[float]:
    """Seconds from a step of the slider to the repainted figure."""
    script = _MOVES.replace("SLIDER", slider).replace("FIGURE", json.dumps(figure)).replace("MOVES", str(moves))
    found: list[float] = browser.visit(url, script)
    return found


def measure(moves: int, visits: int, with_browser: bool, pages: Sequence[str] = ()) -> dict[str, Any]:
    """Measure all moves on one fresh server, then the first screens on others; or the moves of some pages alone."""
    result: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": platform.processor() or platform.machine(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("streamlit", "plotly")},
        "targets": TARGETS,
        "pages": {name: {} for name in pages or PAGES},
    }
    with server() as (address, _process):
        for name in result["pages"]:
            path, slider, figure = PAGES[name]
            result["pages"][name]["server"] = _spread(asyncio.run(server_times(address, path, moves)))
            if with_browser:
                times = browser_times(f"http://{address}/{path}", slider, figure, moves)
                result["pages"][name]["browser"] = _spread(times)
    if with_browser and not pages:
        result["versions"]["chromium"] = browser.version()
        hosted, bare = first_screens(visits, "serve.py", "app.py")
        result |= {"first_screen": hosted, "first_screen_without_front_end": bare}
    return result


def table(result: dict[str, Any]) -> str:
    """The result as lines of text."""
    lines = [f"{'page':<17} {'server median':>14} {'p95':>8} {'browser median':>15} {'p95':>8}"]
    for name, row in result["pages"].items():
        cells = [_ms(row.get("server"), "median_s"), _ms(row.get("server"), "p95_s")]
        cells += [_ms(row.get("browser"), "median_s"), _ms(row.get("browser"), "p95_s")]
        lines.append(f"{name:<17} {cells[0]:>14} {cells[1]:>8} {cells[2]:>15} {cells[3]:>8}")
    for key in ("first_screen", "first_screen_without_front_end"):
        for name, one in result.get(key, {}).items():
            what = f"{key.replace('_', ' ')}, {name.replace('_', ' ')}"
            lines.append(f"{what}: usable {one['usable_s']:.2f} s, complete {one['complete_s']:.2f} s")
    return "\n".join(lines)


def _ms(spread: dict[str, float] | None, key: str) -> str:
    return "–" if spread is None else f"{1e3 * spread[key]:.0f} ms"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--moves", type=int, default=20)
    parser.add_argument("--visits", type=int, default=5, help="first screens of a warm server")
    parser.add_argument(
        "--pages", nargs="+", choices=PAGES, default=(), metavar="NAME", help="some pages, no first screens"
    )
    parser.add_argument("--json", type=Path, default=RESULTS, help="file to write; default %(default)s")
    parser.add_argument("--no-browser", action="store_true")
    args = parser.parse_args(argv)
    result = measure(args.moves, args.visits, not args.no_browser, args.pages)
    print(table(result))
    files.write(args.json, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
