"""Settings and fixtures of all tests. The tests may run side by side in several processes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from streamlit.components.v2 import manifest_scanner

from tests.long import SEED

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# servers, workers and commands that tests start must not compile the program again each time
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# the processes share a few cores: threads that wait in a busy loop would keep other threads from running
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# a test that only draws a page must not start a worker process
os.environ.setdefault("HEADSHARE_WARM_WORKER", "0")
# runs of one test process do not wait for runs of another; tests compare no measured times
OWN_LOCKS = "headshare-tests-"
if Path(os.environ.get("HEADSHARE_LOCK_DIR", OWN_LOCKS)).name.startswith(OWN_LOCKS):
    os.environ["HEADSHARE_LOCK_DIR"] = tempfile.mkdtemp(prefix=OWN_LOCKS)
# cache this: every AppTest run searches all installed packages for components, which takes most of its time
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)

# no test depends on the speed of the machine; a test that hangs ends at pytest's limit
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

LONGEST = (
    *("browser/test_timings", "browser/test_layout", "browser/test_lab", "browser/test_controls", "browser/test_axe"),
    *("walks/test_real_walks", "walks/test_fast_walks", "pages/test_one_number", "browser/test_explore"),
    *("uptrain/test_run", "browser/test_lessons", "browser/test_compute_pages", "faults/test_budget"),
)
"""The files that take longest. They run first: if one began at the end, the other processes would have no work."""


def pytest_report_header() -> str:
    return f"HEADSHARE_SEED={SEED} draws the same cases again"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        path = item.path.with_suffix("").as_posix()
        return next((i for i, name in enumerate(LONGEST) if path.endswith(name)), len(LONGEST))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The only Chromium of this process, because Playwright can run only once in a process."""
    from playwright.sync_api import sync_playwright

    from tests.server import chromium

    with sync_playwright() as playwright:
        running = chromium(playwright)
        yield running
        running.close()
