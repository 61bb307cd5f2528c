"""How long a visitor of a fresh server waits for a run's first result, on a quiet and on a busy machine.

    python -m bench.first_result [--json bench/results/first_result.json]

Each page that times something gets a fresh server, so that no calibration, library or worker is ready yet. Chromium
opens the page and presses the button. The wait lasts from the press until the panel names a first result. Then the
same again, while another process keeps one core busy. The budget is 3 s.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bench.browser import chromium, version
from bench.load import server

BUDGET_S = 3.0
PAGES = (
    ("timings", "Run", "timings"),
    ("", "Run", "explore"),
    ("decode_step", "Run", "decode_step"),
    ("code", "Time it here", "code_trap"),
    ("spectrum", "Time every step of the slider here", "spectrum"),
    ("published", "Time the same sharing here", "published"),
)
"""Pages that time something: page, button, key of the job; tests/browser/test_timings.py uses them all."""
_FIRST = re.compile(r"[1-9]\d* of \d+ (?:tried|timed|steps)|Done in")
_PATIENCE_S = 120


def first_result_s(page: str, label: str, key: str) -> float:
    """Seconds from the press of the button to the first result, on a server that has timed nothing before."""
    from playwright.sync_api import sync_playwright

    with server() as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1280, "height": 800})
        tab.goto(f"http://{address}/{page}")
        tab.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=60_000)
        panel = tab.locator(f".st-key-{key}_status")
        button = tab.get_by_test_id("stMain").get_by_role("button", name=label, exact=True)
        button.wait_for()
        button.click()
        pressed = time.monotonic()
        while not _FIRST.search(panel.inner_text() if panel.count() else ""):
            if time.monotonic() - pressed > _PATIENCE_S:
                raise SystemExit(f"{page or 'explore'}: no result within {_PATIENCE_S} s")
            tab.wait_for_timeout(20)
        waited = time.monotonic() - pressed
        browser.close()
        return waited


@contextmanager
def busy_core() -> Iterator[None]:
    """Keep one core busy with a second process inside the block."""
    burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        burner.kill()
        burner.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows, waits = [], []
    for page, label, key in PAGES:
        quiet = first_result_s(page, label, key)
        with busy_core():
            busy = first_result_s(page, label, key)
        waits += [quiet, busy]
        rows.append({"page": page or "explore", "quiet_s": round(quiet, 2), "busy_s": round(busy, 2)})
        print(f"{page or 'explore':12} quiet {quiet:5.2f} s, one core busy {busy:5.2f} s", flush=True)
    print(f"budget {BUDGET_S:.0f} s: {'kept' if max(waits) <= BUDGET_S else 'not kept'}")
    if args.json:
        record = {
            "rows": rows,
            "machine": platform.processor() or platform.machine(),
            "browser": version(),
            "date": datetime.now(UTC).date().isoformat(),
        }
        args.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
