"""Runs of pages one after another, in order of arrival.

A Python process computes one thing at a time. Runs that come together would share it in slices of 5 ms: all of them
end when the last does, and each pays for the changes. In turn, the first is done after its own time and the last no
later (bench/load.py: fifty visitors' 95th percentile fell to a third). Nobody waits for a run that takes long: after
LONGEST_S the next begins beside it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_S = 0.3
"""A run has the process to itself for so long; ordinary ones take 0.02 s, the first of a page more: its imports."""


class Turns:
    """A queue of threads before one thing; each begins when the one before it has ended, or had `longest_s`."""

    def __init__(self, longest_s: float = LONGEST_S) -> None:
        self.longest_s = longest_s
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._running: threading.Event | None = None
        self._since = 0.0

    @contextmanager
    def turn(self, *, ahead: bool = False) -> Iterator[None]:
        """Wait for those that came before, then do what is inside.

        Args:
            ahead: go before all who wait, because one's turn had come and was given up.
        """
        mine = threading.Event()
        with self._lock:
            self._waiting.appendleft(mine) if ahead else self._waiting.append(mine)
            self._next()
        while not mine.wait(self.longest_s):
            with self._lock:
                self._next()
        try:
            yield
        finally:
            with self._lock:
                if self._running is mine:
                    self._running = None
                self._next()

    def _next(self) -> None:
        """Under the lock: let the first who waits begin, if its time has come."""
        now = time.monotonic()
        if self._waiting and (self._running is None or now - self._since >= self.longest_s):
            self._running, self._since = self._waiting.popleft(), now
            self._running.set()
