"""What tests of pages share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from attention.kept import store
from attention.kept.store import Store
from attention.settings import Settings


@pytest.fixture
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store of kept runs that no other test sees."""
    own = Store(Settings(data_dir=str(tmp_path)))
    monkeypatch.setattr(store, "process_store", own)
    yield own
    own.close()
