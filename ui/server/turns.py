"""Runs of pages one after another; clients take turns.

A Python process computes one thing at a time. Runs that come together would share it in slices of 5 ms: all of them
end when the last does, and each pays for the changes. In turn, the first is done after its own time and the last no
later (bench/load.py: fifty visitors' 95th percentile fell to a third). Nobody waits for a run that takes long: after
LONGEST_S the next begins beside it.

Each client has a line of its own, and the lines are served in turn: who has fifty tabs waits for their own tabs, and
another visitor for one of them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_S = 0.3
"""A run has the process to itself for so long; ordinary ones take 0.02 s, the first of a page more: its imports."""
MOST_BESIDE = 4
"""A client's runs that take longer are beside one another and everyone else's; so many at most."""
GIVEN_UP_S = 10.0
"""A run that takes even longer waits for something, and is not counted among them."""


class _Run:
    def __init__(self, client: str) -> None:
        self.client = client
        self.may = threading.Event()
        self.since = 0.0


class Turns:
    """A queue of threads before one thing; each begins when the one before it has ended, or had `longest_s`."""

    def __init__(self, longest_s: float = LONGEST_S, most_beside: int = MOST_BESIDE) -> None:
        self.longest_s, self.most_beside = longest_s, most_beside
        self._lock = threading.Lock()
        self._lines: dict[str, deque[_Run]] = {}
        self._inside: set[_Run] = set()
        self._running: _Run | None = None
        self._own = threading.local()

    @property
    def waiting(self) -> int:
        """Runs that wait for their turn."""
        with self._lock:
            return sum(map(len, self._lines.values()))

    @contextmanager
    def turn(self, *, client: str = "", ahead: bool = False) -> Iterator[None]:
        """Wait for those that came before, then do what is inside. A turn within a turn is that turn.

        Args:
            client: whose run it is.
            ahead: go before the client's other runs, because one's turn had come and was given up; before everyone's
                if the client has no others.
        """
        if getattr(self._own, "has_turn", False):
            yield
            return
        mine = _Run(client)
        with self._lock:
            alone = client not in self._lines
            line = self._lines.setdefault(client, deque())
            line.appendleft(mine) if ahead else line.append(mine)
            if ahead and alone:
                self._lines = {client: line, **self._lines}
            self._next()
        while not mine.may.wait(self.longest_s):
            with self._lock:
                self._next()
        self._own.has_turn = True
        try:
            yield
        finally:
            self._own.has_turn = False
            with self._lock:
                self._inside.discard(mine)
                if self._running is mine:
                    self._running = None
                self._next()

    def _next(self) -> None:
        """Under the lock: let the first of the next line begin, if its time has come."""
        now = time.monotonic()
        if self._running is not None and now - self._running.since < self.longest_s:
            return
        for client in self._lines:
            beside = sum(run.client == client and now - run.since < GIVEN_UP_S for run in self._inside)
            if beside >= self.most_beside:
                continue
            line = self._lines.pop(client)
            run = line.popleft()
            if line:
                self._lines[client] = line  # at the end
            run.since = now
            self._running = run
            self._inside.add(run)
            run.may.set()
            return
