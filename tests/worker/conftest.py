"""Each test has its own queues."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from attention.settings import Settings
from attention.worker.client import Queues
from tests.worker.shared import COMMAND, KINDS


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(lock_dir=str(tmp_path / "locks"), use_gpu=False, worker_nice=0, session_jobs=3)


@pytest.fixture
def queues(settings: Settings) -> Iterator[Queues]:
    queues = Queues(settings, KINDS, COMMAND)
    yield queues
    queues.close()
