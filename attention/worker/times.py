"""How long runs of each kind took lately, so that a waiting visitor can see how long the wait will be."""

from __future__ import annotations

import statistics
import threading
from collections import defaultdict, deque

REMEMBERED = 9


class Times:
    """The last few durations of each kind of run in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))

    def add(self, kind: str, seconds: float) -> None:
        """Note how long a run of this kind took."""
        with self._lock:
            self._seconds[kind].append(seconds)

    def expected_s(self, kind: str) -> float:
        """Median seconds of the last few runs; 0 if none has ended yet."""
        with self._lock:
            return statistics.median(self._seconds[kind]) if self._seconds[kind] else 0.0
