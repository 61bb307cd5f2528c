"""Timings in a browser: a whole run, a stopped run, a killed worker, and two visitors in turn."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from attention.timing import runs
from bench.first_result import PAGES
from tests.browser.conftest import GO, SIZE, assert_sound, button, eventually, ready, visit
from tests.long import long
from tests.server import PATIENCE_MS, Server
from tests.timing_samples import run as sample_run

SMALL = "t_heads=8&t_kv=8&t_kv=2&t_ctx=256&t_dim=32&t_impl=enable_gqa&t_impl=folded_sdpa"
LONG = (
    "t_heads=32&t_kv=32&t_kv=16&t_kv=8&t_kv=4&t_kv=2&t_kv=1&t_dim=64&t_impl=enable_gqa&t_impl=folded_sdpa&"
    + "&".join(f"t_ctx={2**n}" for n in range(8, 15))
)
"""Some 80 cases: minutes, of which only the first few are waited for."""
RUNS = [(name, key) for name, _, key in PAGES]
"""Pages that time something, and the key of their run."""
FIRST = re.compile(r"[1-9]\d* of 84 (tried|timed)")


@pytest.fixture
def server(app: str, shared_server: Server) -> Server:
    return shared_server


@pytest.fixture(scope="module")
def walker(browser: Browser) -> Iterator[Page]:
    """A visitor who goes from page to page and starts a run on each."""
    context = browser.new_context(viewport=SIZE)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    yield page
    context.close()


def status(page: Page) -> Locator:
    return page.locator(".st-key-timings_status")


def workers(server: Server) -> list[psutil.Process]:
    found = psutil.Process(server.process.pid).children(recursive=True)
    return [p for p in found if "attention.worker.child" in p.cmdline()]


def start_long(page: Page, server: Server) -> Page:
    """Start the long run and wait for its first result."""
    visit(page, f"{server.url}/timings?{LONG}")
    button(page, "Run").click()
    expect(status(page)).to_contain_text(FIRST, timeout=60_000)
    return page


def test_a_run_to_its_end_gets_a_link_that_anybody_may_open(
    page: Page, new_page: Callable[..., Page], server: Server
) -> None:
    visit(page, f"{server.url}/timings?{SMALL}")
    # before the first run a recorded run is shown
    expect(page.get_by_text("Recorded run, shipped with Headshare")).to_be_visible()
    figure = page.locator(".st-key-t_figure .main-svg").first
    figure.wait_for()
    box = figure.bounding_box()
    assert box is not None
    assert box["y"] < 800 - 200, "the figure is in view without scrolling"
    eventually(page, lambda: page.locator(".st-key-t_figure .scatterlayer .point").count() > 5)
    assert_sound(page)
    button(page, "Run").click()
    expect(status(page)).to_contain_text("Done in", timeout=90_000)
    page.wait_for_url(re.compile(r"run=[\w-]{12}"))
    ready(page)
    with page.expect_download() as download:
        button(page, "JSON").click()
    taken = runs.parse(Path(download.value.path()).read_bytes())
    assert [(r.case.n_kv_heads, r.case.implementation) for r in taken.results] == [
        (8, "enable_gqa"), (8, "folded_sdpa"), (2, "enable_gqa"), (2, "folded_sdpa"),
    ]  # fmt: skip
    assert all((r.times_floor or 0) >= 1 and r.together == 1 for r in taken.results)
    assert all(r.median_s and r.error is not None and r.error < (r.tolerance or 0) for r in taken.results)
    visitor = visit(new_page(), page.url)
    expect(visitor.get_by_text("Measured on this server")).to_be_visible()
    expect(visitor.get_by_text("Decode at context 256, 8 query heads of 32, float32").first).to_be_visible()
    assert_sound(visitor)


@long("Timings, where its worker is killed; the real walks")
@pytest.mark.parametrize(("name", "key"), RUNS, ids=[key for _, key in RUNS])
def test_a_page_stays_whole_while_its_run_goes_on(name: str, key: str, walker: Page, server: Server) -> None:
    """The page is checked twice a second, from the press of the button until some time after the first result."""
    page = walker
    if page.url == "about:blank":
        visit(page, f"{server.url}/about")
    # a small model, so that a step takes little time
    page.evaluate(GO, f"{server.url}/{name}?v=1&model=meta-llama/Llama-3.2-1B&d_ctx=256")
    # the page before may have a button of the same name
    page.locator(f".st-key-{key}_run").get_by_role("button").click()
    panel = page.locator(f".st-key-{key}_status")
    begun = re.compile(r"[1-9]\d* of \d+ (tried|timed|steps)")
    looks = 0
    deadline = time.monotonic() + 90
    while looks < 6 and time.monotonic() < deadline:
        assert_sound(page)
        said = panel.inner_text()
        looks += bool(begun.search(said)) or "Done" in said
        page.wait_for_timeout(500)
    assert looks, "nothing was measured"
    stop = button(page, "Stop")
    if stop.count():
        stop.click()
    expect(panel).to_contain_text(re.compile(r"Stopped|Done"), timeout=90_000)
    ready(page)
    assert_sound(page)
    assert "Traceback" not in server.log.read_text(errors="replace")


def test_every_answer_is_whole(new_page: Callable[..., Page], server: Server) -> None:
    """No message refers to an earlier message: if the browser has dropped that one, the page loses its connection."""
    page = new_page()
    kinds: list[str | None] = []

    def note(data: bytes | str) -> None:
        # a reference is short, so long messages are not parsed: that would take longer than the page itself
        if isinstance(data, bytes) and len(data) < 2000:
            kinds.append(ForwardMsg.FromString(data).WhichOneof("type"))
        else:
            kinds.append("delta")

    page.on("websocket", lambda socket: socket.on("framereceived", note))
    visit(page, f"{server.url}/timings?{SMALL}")
    for view in ("Over context", "One context"):
        page.get_by_role("radio", name=view).click()
        ready(page)
        page.wait_for_timeout(300)
    assert kinds.count("delta") > 50
    assert "ref_hash" not in kinds


def test_a_killed_worker_is_told_the_next_run_works_and_stop_keeps_what_was_timed(page: Page, server: Server) -> None:
    start_long(page, server)
    follows = page.get_by_text("the figure follows its newest timing")
    expect(follows).to_be_visible()
    for _ in range(4):
        assert_sound(page)
        page.wait_for_timeout(500)
    (worker,) = workers(server)
    worker.kill()
    expect(status(page)).to_contain_text("The worker process was killed")
    expect(page.get_by_text("Measured on this server")).to_be_visible()
    button(page, "Run").click()
    expect(status(page)).to_contain_text(FIRST, timeout=60_000)
    assert workers(server)[0].pid != worker.pid
    button(page, "Stop").click()
    expect(button(page, "Run")).to_be_visible()
    expect(status(page)).to_contain_text(re.compile(r"Stopped after .* results so far are kept"))
    expect(follows).to_have_count(0)
    expect(page.get_by_text("Measured on this server")).to_be_visible()
    assert_sound(page)


@long("tests/worker/test_queue.py, without a browser")
def test_two_visitors_are_served_in_turn_and_a_closed_tab_ends_its_run(
    new_page: Callable[..., Page], server: Server
) -> None:
    page = start_long(new_page(), server)
    second = visit(new_page(), f"{server.url}/timings?{SMALL}")
    button(second, "Run").click()
    expect(status(second)).to_contain_text("Waiting: 1 run comes first on this machine")
    page.close()
    expect(status(second)).to_contain_text("Done in", timeout=90_000)


def test_runs_of_two_machines_in_one_figure(page: Page, server: Server) -> None:
    visit(page, f"{server.url}/timings")
    first = runs.recorded()[0]
    document = first.to_json()
    document["calibration"]["name"] = "A second machine"
    page.get_by_text("Compare with other machines").click()
    page.locator(".st-key-t_upload input[type=file]").set_input_files(
        {"name": "run.json", "mimeType": "application/json", "buffer": json.dumps(document).encode()}
    )
    expect(page.get_by_text("Uploaded by a visitor, not checked").first).to_be_visible()
    expect(page.locator(".st-key-t_figure .ytick", has_text="A second machine")).to_be_visible()
    broken = sample_run().dumps().replace('"median_s": 0.13', '"median_s": 0.01')
    page.locator(".st-key-t_upload input[type=file]").set_input_files(
        {"name": "broken.json", "mimeType": "application/json", "buffer": broken.encode()}
    )
    expect(page.get_by_text("bytes_per_s must be")).to_be_visible()
    assert_sound(page)
