"""Two speeds of the lessons: seconds for attention maps of a 256-byte text, frames per second of the decode animation.

    python -m bench.lessons [--rounds 9] [--json bench/results/lessons.json]

The maps are those of every head of every layer of each shipped model, computed in this process with the weights loaded.
For the animation the command counts the frames that Chromium draws while it plays, and the messages that the browser
sends to the server in that time. The budgets are 300 ms and 50 frames per second.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attention.tiny import numpy_forward
from bench import files
from bench.load import server

BUDGET_S, BUDGET_FPS = 0.3, 50.0
MODELS = ("mha", "gqa-4", "gqa", "mqa")
PLAY_S = 2.0


def maps_s(name: str, rounds: int) -> dict[str, float]:
    """Seconds for the maps of a 256-byte text; each round has a text of its own."""
    weights = numpy_forward.load_named(name)
    source = Path(json.__file__).read_bytes()
    taken = []
    for number in range(rounds + 1):
        text = source[1000 * number :][:256]
        started = time.perf_counter()
        numpy_forward.maps(weights, text)
        taken.append(time.perf_counter() - started)
    return {"first_s": taken[0], "median_s": statistics.median(taken[1:]), "worst_s": max(taken)}


def animation() -> dict[str, float]:
    """Frames drawn per second of play, and the number of messages sent to the server in that time."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    sent: list[object] = []
    with server() as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.on("websocket", lambda socket: socket.on("framesent", lambda data: sent.append(data)))
        page.goto(f"http://{address}/why")
        scene = page.locator(".st-key-decode .decode")
        page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=60_000)
        scene.get_by_role("button", name="Play", exact=True).click()
        page.wait_for_function("e => Number(e.dataset.drawn) > 10", arg=scene.element_handle())
        before = len(sent)
        drawn, took = scene.evaluate(
            """async (e, seconds) => {
                const [first, start] = [Number(e.dataset.drawn), performance.now()];
                await new Promise((done) => setTimeout(done, 1000 * seconds));
                return [Number(e.dataset.drawn) - first, (performance.now() - start) / 1000];
            }""",
            PLAY_S,
        )
        browser.close()
    return {"frames_per_s": drawn / took, "seconds": took, "messages": len(sent) - before}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, default=Path("bench/results/lessons.json"))
    args = parser.parse_args()
    maps = {name: maps_s(name, args.rounds) for name in MODELS}
    played = animation()
    result: dict[str, Any] = {
        "what": "maps of a 256-byte text with the weights loaded; frames of the decode animation in Chromium",
        "maps": maps,
        "animation": played,
        "budget_s": BUDGET_S,
        "budget_fps": BUDGET_FPS,
        "python": platform.python_version(),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    files.write(args.json, result)
    for name, row in maps.items():
        print(f"{name}: maps in {1e3 * row['median_s']:.0f} ms, at most {1e3 * row['worst_s']:.0f} ms")
    print(f"animation: {played['frames_per_s']:.0f} frames per second, {played['messages']} messages to the server")
    within = max(row["median_s"] for row in maps.values()) <= BUDGET_S and played["frames_per_s"] >= BUDGET_FPS
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
