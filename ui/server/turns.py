"""A queue for the runs of pages: they run one after another, and clients take turns.

A Python process computes one thing at a time. Runs that come together would share it in slices of 5 ms: all of them end
late, and switching takes time too. One after another, the first ends after its own time and the last no later
(bench/load.py: fifty visitors' 95th percentile is a third of that without turns). A long run does not hold up the
others: after LONGEST_S the next one begins beside it.

Each client has its own queue, and the queues are served in turn. A client with fifty tabs waits for its own tabs;
another visitor waits for only one of them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_S = 0.3
"""A run has the process to itself for this long. An ordinary run takes 0.02 s; the first run of a page also imports."""
MOST_BESIDE = 4
"""At most this many longer runs of one client go on beside other runs."""
GIVEN_UP_S = 10.0
"""A run that takes even longer is waiting for something, and does not count for MOST_BESIDE."""


class _Run:
    def __init__(self, client: str) -> None:
        self.client = client
        self.may = threading.Event()
        self.since = 0.0


class Turns:
    """A queue of threads: each begins when the one before it has ended or has run for `longest_s` seconds."""

    def __init__(self, longest_s: float = LONGEST_S, most_beside: int = MOST_BESIDE) -> None:
        self.longest_s, self.most_beside = longest_s, most_beside
        self._lock = threading.Lock()
        self._lines: dict[str, deque[_Run]] = {}
        self._inside: set[_Run] = set()
        self._running: _Run | None = None
        self._own = threading.local()

    @property
    def waiting(self) -> int:
        """Number of runs that wait for their turn."""
        with self._lock:
            return sum(map(len, self._lines.values()))

    @contextmanager
    def turn(self, *, client: str = "", ahead: bool = False) -> Iterator[None]:
        """Wait for the runs before this one, then run the block. A turn inside a turn does not wait.

        Args:
            client: the client of this run.
            ahead: go before the client's other runs, because a run of this client gave up its turn; if the client has
                no other runs, go before everyone's.
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
        """Let the first run of the next client's queue begin, if it may. Call this with the lock held."""
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
