"""Real walks: Chromium before a real server. Every step is a control that the page shows just then."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Response, sync_playwright
from playwright.sync_api import Error as BrowserError

from tests.server import PATIENCE_MS, Server, chromium
from tests.walks import texts
from tests.walks.replay import Fault, Step, script, shorten

HERE = Path(__file__).parent
LOOK, OFFERS, WORDS, STILL = (
    (HERE / f"{name}.js").read_text(encoding="utf-8") for name in ("look", "offers", "words", "still")
)
READY = "[data-testid=stApp][data-test-script-state=notRunning]"
WIDTHS = (320, 390, 820, 1024, 1280, 1920)
SELECTORS = dict(re.findall(r'\["(\w+)", "([^"]+)"\]', OFFERS))
TYPED = ("Qwen3-32B", "gpt oss", "MLA", "no such model", "fp8", "128k", "8192", "decode")
LENGTH = 14
"""Steps of one visitor."""
FEWEST = 4
"""Steps that are walked however long a busy machine takes for them."""


class Visitor:
    """A visitor with a tab of some width and colours, and what is wrong with what they see."""

    def __init__(self, browser: Browser, server: Server, width: int, scheme: str) -> None:
        self.browser, self.server = browser, server
        self.options: dict[str, Any] = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
        self.context = browser.new_context(**self.options)
        self.said: list[str] = []
        self.page = self._tab()
        self.other: Page | None = None
        self.steps: list[Step] = []
        self.runs = 0

    def _tab(self) -> Page:
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.said.append(f"page error: {error}"))
        page.on("response", self._response)
        return page

    def _console(self, message: ConsoleMessage) -> None:
        # a failed request is told by its address below
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.said.append(f"console: {message.text[:300]}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            path = response.url[len(self.server.url) :].partition("?")[0]
            self.said.append(f"{response.status} for …/{path.split('/', 2)[-1]}, asked at {path}"[:200])

    def close(self) -> None:
        self.context.close()
        if self.other is not None:
            self.other.context.close()

    @property
    def place(self) -> str:
        """The page and how it is looked at."""
        path = self.page.url.split("?")[0].rsplit("/", 1)[-1] or "explore"
        return f"{path} at {self.page.viewport_size['width'] if self.page.viewport_size else 0}"

    # -- steps -----------------------------------------------------------------------------------------------------

    def offers(self, rng: random.Random) -> Step:
        """One step of what the page shows, or of what the browser itself offers; some are not waited for."""
        step = self._offers(rng)
        return ("hurry", *step) if rng.random() < 0.2 and step[0] not in ("reload", "second") else step

    def _offers(self, rng: random.Random) -> Step:
        if rng.random() < 0.2:
            return rng.choice((("back",), ("forward",), ("reload",), ("width", rng.choice(WIDTHS)), ("second",),
                               ("colours", rng.choice(("light", "dark")))))  # fmt: skip
        shown: list[list[Any]] = self.page.evaluate(OFFERS)
        kinds = sorted({how for how, *_ in shown if how != "page" or rng.random() < 0.4})
        if not kinds:
            return ("reload",)
        how = rng.choice(kinds)
        how, number, key, label = rng.choice([offer for offer in shown if offer[0] == how])
        match how:
            case "page":
                return ("page", label)
            case "type":
                return ("type", number, rng.choice(TYPED), rng.random() < 0.6)
            case "number":
                return ("number", number, rng.choice(("1", "3", "1000", "4096", "999999999", "-1")))
            case "slide":
                return ("slide", number, rng.choice(("ArrowLeft", "ArrowRight", "End", "Home", "mouse")))
            case "write":
                return ("write", number, rng.choice((*texts.SLIPS, rng.choice(texts.CONFIGS).read_text())))
            case "own":
                return ("own", number, round(rng.random(), 2), round(rng.random(), 2))
        return (how, number, f"{key} {label}".strip())

    def do(self, step: Step) -> None:
        """Do a step; what is not there is passed over. Ends when the page has settled, but for a step in a hurry."""
        page, (what, *rest) = self.page, step[1:] if step[0] == "hurry" else step
        try:
            self._do(page, what, rest)
        except BrowserError as error:
            # what a redraw took away under the hand is no fault; everything else shows on the page
            if "Timeout" not in str(error) and "detached" not in str(error):
                raise
        if step[0] == "hurry":
            page.wait_for_timeout(40)
            return
        try:
            self.settle()
        except BrowserError:
            self.said.append(f"stuck: the page is not ready after {PATIENCE_MS / 1000:.0f} s")

    def _do(self, page: Page, what: str, rest: list[Any]) -> None:
        match what:
            case "visit":
                page.goto(f"{self.server.url}/{rest[0]}")
            case "back":
                # not out of the app, to the empty tab
                if page.evaluate("navigation.canGoBack"):
                    page.go_back()
            case "forward":
                page.go_forward()
            case "reload":
                page.reload()
            case "width":
                page.set_viewport_size({"width": rest[0], "height": 900})
            case "colours":
                page.emulate_media(color_scheme=rest[0])
            case "second":
                other = self._tab()
                other.goto(page.url)
                other.wait_for_selector(READY)
                other.close()
            case "page":
                page.locator(f"nav.hs-pages a[href='{rest[0]}']").dispatch_event("click")
            case _:
                self._use(what, *rest)

    def _use(self, what: str, number: int, *rest: Any) -> None:
        rooms = self.page.locator("[data-testid=stMain], [data-testid=stPopoverBody]")
        target = rooms.locator(SELECTORS[what]).nth(number)
        if not target.count():
            return
        quick: dict[str, Any] = {"timeout": 4000}
        match what:
            case "type":
                target.click(**quick)
                self.page.keyboard.type(rest[0])
                self.page.keyboard.press("Enter")
                if rest[1]:
                    self.page.keyboard.press("Escape")
            case "number":
                # what is out of range stays in the box, and the browser says so
                low, high = target.get_attribute("min", **quick), target.get_attribute("max", **quick)
                allowed = min(max(float(rest[0]), float(low or "-inf")), float(high or "inf"))
                target.fill(f"{allowed:.0f}", **quick)
                target.press("Enter", **quick)
            case "slide" if rest[0] == "mouse":
                self._drag(target)
            case "slide":
                target.focus(**quick)
                target.press(rest[0], **quick)
            case "write":
                target.fill(rest[0][:20_000], **quick)
                target.press("Control+Enter", **quick)
            case "own":
                box = target.bounding_box(**quick)
                if box and box["width"] and box["height"]:
                    target.click(position={"x": rest[0] * box["width"], "y": rest[1] * box["height"]}, **quick)
            case _:
                target.click(**quick)

    def _drag(self, target: Locator) -> None:
        target.scroll_into_view_if_needed(timeout=4000)
        box = target.bounding_box()
        if box:
            self.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            self.page.mouse.down()
            self.page.mouse.move(box["x"] + 40, box["y"] + box["height"] / 2, steps=3)
            self.page.mouse.up()

    def settle(self) -> None:
        """Wait until the script has run and what it drew stands still."""
        self.page.wait_for_selector(READY, timeout=PATIENCE_MS)
        self.page.wait_for_function("() => !document.querySelector('[data-testid=stSkeleton]')")
        self.page.wait_for_function(STILL, polling=150)

    # -- oracles ---------------------------------------------------------------------------------------------------

    def take(self, step: Step, *, fresh: bool = False) -> list[Fault]:
        """Do a step and look; with `fresh`, compare with the address opened by somebody else."""
        self.steps.append(step)
        self.do(step)
        # what a run finds is this visitor's own: an address does not carry it
        self.runs += "press" in step[:2]
        if step[0] == "hurry":
            return []
        return [Fault(oracle, self.place, what, list(self.steps)) for oracle, what in self._asked(fresh)]

    def _asked(self, fresh: bool) -> Iterator[tuple[str, str]]:
        page = self.page
        if (
            page.locator("[data-testid=stException]").count()
            or page.get_by_text("this part of the page failed").count()
        ):
            yield "error box", "the page shows an error"
        if raised := self.server.raised():
            yield "log", raised[-1500:]
        for line in self.said:
            yield "console", line
        self.said.clear()
        for what in self._looks():
            yield what.split(":")[0] if ":" in what[:24] else "overlap", what
        running = page.locator("[class*=_stop] button").count() > 0
        if fresh and not running and not self.runs:
            yield from self._fresh()

    def _looks(self) -> list[str]:
        """What is wrong for longer than a moment: a page in motion is looked at again."""
        found: list[str] = self.page.evaluate(LOOK)
        for _ in range(4):
            if not found:
                break
            self.page.wait_for_timeout(250)
            again: list[str] = self.page.evaluate(LOOK)
            found = [what for what in found if what in again]
        return found

    def _fresh(self) -> Iterator[tuple[str, str]]:
        # what stands in a list that is still searched is not chosen yet; given up, it reads what the page shows
        self.page.keyboard.press("Escape")
        self.page.evaluate("() => document.activeElement?.blur()")
        if self.other is None:
            self.other = self.browser.new_context(**self.options).new_page()
            self.other.set_default_timeout(PATIENCE_MS)
        other = self.other
        if size := self.page.viewport_size:
            other.set_viewport_size(size)
        opened = ""
        # a busy machine may take a step, and its address, only after another was opened
        while opened != self.page.url:
            opened = self.page.url
            other.goto(opened)
            other.wait_for_selector(READY)
            other.wait_for_function("() => !document.querySelector('[data-testid=stSkeleton]')")
            # words arrive one after the other
            for _ in range(20):
                mine, theirs = self.page.evaluate(WORDS), other.evaluate(WORDS)
                if theirs == mine:
                    return
                other.wait_for_timeout(200)
        gone = [w for w in mine if w not in theirs][:3], [w for w in theirs if w not in mine][:3]
        if any(gone):
            yield "address", f"{self.page.url[len(self.server.url) :][:200]}: here {gone[0]}, opened anew {gone[1]}"


def play(
    browser: Browser,
    server: Server,
    width: int,
    scheme: str,
    steps: Sequence[Step],
    sought: tuple[str, str] | None = None,
) -> Fault | None:
    """Walk `steps`; the first fault, or the first of the kind `sought`, or None."""
    visitor = Visitor(browser, server, width, scheme)
    try:
        for step in steps:
            last = step is steps[-1]
            for fault in visitor.take(tuple(step), fresh=last and (sought is None or sought[0] == "address")):
                if sought in (None, fault.kind):
                    return fault
        return None
    finally:
        visitor.close()


def walk(
    browser: Browser, server: Server, seed: int, steps: int, until: float, starts: Sequence[str], fresh_every: int = 4
) -> tuple[int, list[str]]:
    """Visitors of LENGTH steps each from `seed` on, until `steps` are done or the clock (monotonic) reads `until`.

    Returns the steps done and a report of each fault: what, where, seed, and a shortened script.
    """
    known: set[tuple[str, str]] = set()
    done, number = 0, 0
    reports: list[str] = []
    while done < steps and (done < FEWEST or time.monotonic() < until):
        rng = random.Random(f"{seed} {number}")
        # every width and start comes up; the seed decides which go together
        width, scheme = WIDTHS[(seed + number) % len(WIDTHS)], rng.choice(("light", "dark"))
        visitor = Visitor(browser, server, width, scheme)
        found: list[tuple[int, Fault]] = []
        try:
            step: Step = ("visit", starts[(seed + number) % len(starts)])
            while len(visitor.steps) < LENGTH and (done < FEWEST or time.monotonic() < until):
                done += 1
                fresh = len(visitor.steps) % fresh_every == fresh_every - 1
                for fault in visitor.take(step, fresh=fresh):
                    if (key := (fault.oracle, fault.what[:60])) not in known:
                        known.add(key)
                        found.append((done, fault))
                step = visitor.offers(rng)
        finally:
            visitor.close()
        for after, fault in found:
            again = partial(play, browser, server, width, scheme, sought=fault.kind)
            shortest = shorten(fault, again, 10)
            arguments = f"width={width}, scheme={scheme!r}"
            reports.append(f"found after {after} steps\n"
                           + script(f"{seed} {number}", fault, shortest, "browser_walk", arguments))  # fmt: skip
        number += 1
    return done, reports


def replay(steps: Sequence[Step], width: int, scheme: str) -> Fault | None:
    """Walk `steps` in a browser and before a server of their own; the first fault, or None."""
    with TemporaryDirectory() as data, sync_playwright() as playwright:
        server, browser = Server(Path(data)), chromium(playwright)
        try:
            return play(browser, server, width, scheme, steps)
        finally:
            browser.close()
            server.close()
