"""Film the running app for README's two films: ``python deploy/films.py`` (needs Chromium and Pillow, no network).

A real browser opens the pages, moves their sliders by keyboard, and gives each frame that it draws, with its time. The
frames that differ become an animated WebP of at most 3 MB. A slow machine gives fewer frames, but the same speed.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 3_000_000
LEAST_MS, HOLD_MS = 66, 2600
"""Milliseconds: the least time that a frame stays, and the time that the last frame stays before the film repeats."""
READY = "[data-testid=stApp][data-test-script-state=notRunning]"


class Frame(NamedTuple):
    """A picture and the second at which the browser had drawn it."""

    at_s: float
    picture: Image.Image


class Film(NamedTuple):
    """One film: its file in docs/, the address, the window's size in pixels, whether it begins with the page's arrival
    animation, and what the visitor does."""

    name: str
    address: str
    width: int
    height: int
    arrives: bool
    play: Callable[[Page], None]


def _press(page: Page, key: str, *keys: str, pause_ms: int = 1500) -> None:
    """Press keys on the slider of a control; after each key wait `pause_ms` and until the page is drawn."""
    for pressed in keys:
        page.locator(f".st-key-{key}").get_by_role("slider").press(pressed)
        page.wait_for_timeout(pause_ms)
        page.wait_for_selector(READY)


def _first_screen(page: Page) -> None:
    # on arrival the page shows MHA, GQA-8 and MQA one after another; then the context grows
    page.wait_for_timeout(6500)
    _press(page, "context_pick", *4 * ["ArrowRight"], pause_ms=900)
    page.wait_for_timeout(2500)


def _sharings(page: Page) -> None:
    page.wait_for_timeout(1500)
    _press(page, "spec_kv_pick", *5 * ["ArrowLeft"])
    page.wait_for_timeout(2500)


FILMS = (
    Film("explore.webp", "/?v=1&context=8192", 1280, 720, True, _first_screen),
    Film("sharings.webp", "/spectrum?v=1&context=131072&spec_kv=32", 1120, 640, False, _sharings),
)


def frames_of(browser: Browser, url: str, film: Film) -> list[Frame]:
    """The frames that the browser draws while the visitor's part is played."""
    context = browser.new_context(viewport={"width": film.width, "height": film.height}, color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(120_000)
    # the page is opened once before, so that the film does not show Streamlit's scripts loading
    page.goto(url + film.address)
    page.wait_for_selector(READY)
    page.wait_for_timeout(2500)
    found: list[Frame] = []
    session = context.new_cdp_session(page)

    def take(event: dict[str, object]) -> None:
        data, told = str(event["data"]), event["metadata"]
        assert isinstance(told, dict)
        found.append(Frame(float(told["timestamp"]), Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")))
        session.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})

    if film.arrives:
        page.reload()
        page.wait_for_function("() => !document.documentElement.classList.contains('hs-arriving')")
        for drawn in (".st-key-head_map .row-label", ".st-key-ways rect"):
            page.locator(drawn).first.wait_for()
    session.on("Page.screencastFrame", take)
    session.send("Page.startScreencast", {"format": "png", "everyNthFrame": 1})
    film.play(page)
    session.remove_listener("Page.screencastFrame", take)
    session.send("Page.stopScreencast")
    context.close()
    return found


def told_apart(frames: list[Frame]) -> tuple[list[Image.Image], list[int]]:
    """The frames that differ from the frame before and stay for LEAST_MS or more, with the milliseconds each stays.

    Raises:
        ValueError: there is no frame.
    """
    if not frames:
        raise ValueError("the browser gave no frames")
    kept = [frames[0]]
    for frame in frames[1:]:
        if frame.picture.tobytes() == kept[-1].picture.tobytes():
            continue
        if (frame.at_s - kept[-1].at_s) * 1000 < LEAST_MS:
            kept[-1] = Frame(kept[-1].at_s, frame.picture)
        else:
            kept.append(frame)
    ends = [*(frame.at_s for frame in kept[1:]), kept[-1].at_s + HOLD_MS / 1000]
    return [frame.picture for frame in kept], [
        max(LEAST_MS, round((end - frame.at_s) * 1000)) for frame, end in zip(kept, ends, strict=True)
    ]


def webp(frames: list[Frame]) -> bytes:
    """The frames as an animated WebP, at the best quality that stays within MOST_BYTES.

    Raises:
        ValueError: there is no frame, or the film is too large at every quality.
    """
    pictures, stay_ms = told_apart(frames)
    for quality in (80, 65, 50):
        made = io.BytesIO()
        pictures[0].save(
            made, "WEBP", save_all=True, append_images=pictures[1:], duration=stay_ms, loop=0,
            quality=quality, method=4, kmin=9, kmax=60,
        )  # fmt: skip
        if made.tell() <= MOST_BYTES:
            return made.getvalue()
    raise ValueError(f"{len(pictures)} frames take {made.tell():,} bytes, accepted are {MOST_BYTES:,}")


def main() -> None:
    """Film both, or those named on the command line, and write them to docs/."""
    # a script has its own folder on the path, not the project's
    sys.path.insert(0, str(ROOT))
    from tests.server import Server, chromium

    chosen = [film for film in FILMS if film.name in sys.argv[1:]] or FILMS
    with tempfile.TemporaryDirectory() as data, sync_playwright() as playwright:
        server, browser = Server(Path(data)), chromium(playwright)
        try:
            for film in chosen:
                frames = frames_of(browser, server.url, film)
                body = webp(frames)
                (ROOT / "docs" / film.name).write_bytes(body)
                print(f"docs/{film.name}: {len(frames)} frames drawn, {len(body):,} bytes")
        finally:
            browser.close()
            server.close()


if __name__ == "__main__":
    main()
