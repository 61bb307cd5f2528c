"""What the tests of the worker share: handlers that misbehave (tests/worker_handlers.py), and how long to wait."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

HERE = Path(__file__).parents[1]
COMMAND = (sys.executable, str(HERE / "worker_handlers.py"))
KINDS = ("count", "hang", "eat", "crash", "refuse", "big", "storm", "gulp", "ready", "prepared")
PATIENCE_S = 20.0


def until(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
