"""Real walks: Chromium with a real server. Every step uses a control that the page shows at that moment."""

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
"""At least this many steps are taken, also on a slow machine."""


class Visitor:
    """A visitor with a tab of some width and colour scheme, and the checks of what the tab shows."""

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
        # _response reports a failed request, with its address
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
        """The page and the width of its window."""
        path = self.page.url.split("?")[0].rsplit("/", 1)[-1] or "explore"
        return f"{path} at {self.page.viewport_size['width'] if self.page.viewport_size else 0}"

    # -- steps -----------------------------------------------------------------------------------------------------

    def offers(self, rng: random.Random) -> Step:
        """A random step: a control of the page, or one of the browser. After some of the steps nothing waits."""
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
        """Do a step; nothing if its control is not there. Then wait for the page, unless the step is in a hurry."""
        page, (what, *rest) = self.page, step[1:] if step[0] == "hurry" else step
        try:
            self._do(page, what, rest)
        except BrowserError as error:
            # it is no fault if a redraw removes the control during the step; other faults show on the page
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
                # do not go back out of the app to the empty tab
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
                # stay in the range: the browser only warns about a number outside it
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
        """Wait until the script has run and the page is still."""
        self.page.wait_for_selector(READY, timeout=PATIENCE_MS)
        self.page.wait_for_function("() => !document.querySelector('[data-testid=stSkeleton]')")
        self.page.wait_for_function(STILL, polling=150)

    # -- oracles ---------------------------------------------------------------------------------------------------

    def take(self, step: Step, *, fresh: bool = False) -> list[Fault]:
        """Do a step and return the faults; with `fresh`, also compare with the address opened by another visitor."""
        self.steps.append(step)
        self.do(step)
        # an address does not carry the results of this visitor's runs
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
        """The faults that stay: a page in motion is checked again, up to four times."""
        found: list[str] = self.page.evaluate(LOOK)
        for _ in range(4):
            if not found:
                break
            self.page.wait_for_timeout(250)
            again: list[str] = self.page.evaluate(LOOK)
            found = [what for what in found if what in again]
        return found

    def _fresh(self) -> Iterator[tuple[str, str]]:
        # a text in an open search is not chosen yet: close the search, so that the field shows the page's value
        self.page.keyboard.press("Escape")
        self.page.evaluate("() => document.activeElement?.blur()")
        if self.other is None:
            self.other = self.browser.new_context(**self.options).new_page()
            self.other.set_default_timeout(PATIENCE_MS)
        other = self.other
        if size := self.page.viewport_size:
            other.set_viewport_size(size)
        opened = ""
        # on a busy machine the address may change late: open it again until it stays
        while opened != self.page.url:
            opened = self.page.url
            other.goto(opened)
            other.wait_for_selector(READY)
            other.wait_for_function("() => !document.querySelector('[data-testid=stSkeleton]')")
            # the words of a page arrive one after another
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
    """Walk `steps`; the first fault, or the first one of the kind `sought`; None if there is none."""
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
    """Send visitors of LENGTH steps each, until `steps` are done or the monotonic clock reads `until`.

    Returns:
        (number of steps done, a report of each fault: what, where, seed, and a shortened script).
    """
    known: set[tuple[str, str]] = set()
    done, number = 0, 0
    reports: list[str] = []
    while done < steps and (done < FEWEST or time.monotonic() < until):
        rng = random.Random(f"{seed} {number}")
        # every width and every start is used; the seed decides their pairs
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
    """Walk `steps` with a new browser and a new server; the first fault, or None."""
    with TemporaryDirectory() as data, sync_playwright() as playwright:
        server, browser = Server(Path(data)), chromium(playwright)
        try:
            return play(browser, server, width, scheme, steps)
        finally:
            browser.close()
            server.close()
