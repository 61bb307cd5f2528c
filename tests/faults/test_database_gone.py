"""PostgreSQL stops while pages are open: the pages stay usable, say so, and work again when it is back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from attention.kept.store import Store
from attention.settings import Settings
from tests import postgres
from tests.browser.conftest import assert_sound, visit
from tests.long import long
from tests.server import PATIENCE_MS, Server
from tests.timing_samples import run

pytestmark = pytest.mark.browser


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    yield page
    context.close()


@long("tests/kept/test_store.py, the store without pages")
def test_pages_outlive_their_database(tab: Page, tmp_path: Path) -> None:
    with postgres.cluster() as database:
        store = Store(Settings(database_url=database.url))
        kept, later = store.save(run()).id, store.save(run()).id
        store.close()
        server = Server(tmp_path / "server", DATABASE_URL=database.url)
        try:
            visit(tab, f"{server.url}/timings?run={kept}")
            expect(tab.get_by_text("can't be reached")).to_have_count(0)
            assert not server.raised()
            database.stop()
            try:
                visit(tab, f"{server.url}/timings?run={later}")
                expect(tab.get_by_text("can't be reached").first).to_be_visible()
                assert_sound(tab)
                # a page that needs no database still works
                visit(tab, f"{server.url}/kv_cache")
                expect(tab.get_by_text("Traceback")).to_have_count(0)
                assert_sound(tab)
            finally:
                database.start()
            visit(tab, f"{server.url}/timings?run={later}")
            expect(tab.get_by_text("can't be reached")).to_have_count(0)
            assert_sound(tab)
        finally:
            server.close()
