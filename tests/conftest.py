"""What holds for all tests, which may run side by side in several processes."""

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

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# servers, workers and commands that tests start shall not compile the program anew each time
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# processes that share two cores: threads that wait in a loop for one another would keep the others' from running
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# a test that only draws a page shall not start a worker process
os.environ.setdefault("HEADSHARE_WARM_WORKER", "0")
# runs of one test process do not wait for those of another; what is measured is not compared with anything
OWN_LOCKS = "headshare-tests-"
if Path(os.environ.get("HEADSHARE_LOCK_DIR", OWN_LOCKS)).name.startswith(OWN_LOCKS):
    os.environ["HEADSHARE_LOCK_DIR"] = tempfile.mkdtemp(prefix=OWN_LOCKS)
# every AppTest run looks through all installed packages for components that they bring: most of its time, each time
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)

# how fast the machine is decides no test: one that hangs ends at pytest's limit
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

LONGEST = (
    *("browser/test_timings", "browser/test_layout", "browser/test_lab", "browser/test_controls", "browser/test_axe"),
    *("walks/test_real_walks", "walks/test_fast_walks", "pages/test_one_number", "browser/test_explore"),
    *("uptrain/test_run", "browser/test_lessons", "browser/test_compute_pages", "faults/test_budget"),
)
"""Files that take longest. They go first: a process that begins one at the end leaves the other without work."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        path = item.path.with_suffix("").as_posix()
        return next((i for i, name in enumerate(LONGEST) if path.endswith(name)), len(LONGEST))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The one Chromium of this process: Playwright runs once in it."""
    from playwright.sync_api import sync_playwright

    from tests.server import chromium

    with sync_playwright() as playwright:
        running = chromium(playwright)
        yield running
        running.close()
