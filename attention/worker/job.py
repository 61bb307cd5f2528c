"""A run in the queue or in the worker, as its owner sees it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from attention.timing.device_queue import Turn


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use; None takes the server's setting, which is also the most.

    Attributes:
        seconds: longest time, counted from the start of the run.
        memory_bytes: resident memory of the worker process.
        estimate_bytes: memory the arithmetic says the run needs; a run that can't fit is refused at once.
    """

    seconds: float | None = None
    memory_bytes: int | None = None
    estimate_bytes: int | None = None


@dataclass(eq=False)
class Job:
    """A run as its owner sees it. Fields may be read at any time, from any thread.

    Attributes:
        results: what the run emitted so far, in order.
        progress: share done, 0 to 1; progress_text: what it is doing.
        summary: what the handler returned, once done.
        error: one sentence for the visitor, if it failed.
        worker_pid: the process that took it, once one has.
    """

    kind: str
    payload: dict[str, Any]
    owner: str
    device: str
    seconds: float
    memory_bytes: int
    turn: Turn
    state: State = State.QUEUED
    results: list[dict[str, Any]] = field(default_factory=list)
    progress: float = 0.0
    progress_text: str = ""
    summary: dict[str, Any] | None = None
    error: str | None = None
    worker_pid: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    stop_asked: threading.Event = field(default_factory=threading.Event)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def done(self) -> bool:
        """Whether the run has ended, in whichever way."""
        return self.state in (State.DONE, State.FAILED, State.STOPPED)

    @property
    def position(self) -> int:
        """Runs on this host that come first: 0 when running or ended."""
        return self.turn.position if self.state is State.QUEUED else 0

    def wait_s(self) -> tuple[float | None, float]:
        """Seconds until it is taken: expected (None: not known), and at most."""
        return self.turn.wait_s() if self.state is State.QUEUED else (0.0, 0.0)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run left the queue."""
        if self.started_at is None:
            return 0.0
        return (time.monotonic() if self.ended_at is None else self.ended_at) - self.started_at

    def stop(self) -> None:
        """End the run, or take it out of the queue; returns at once. A run in hand ends within two seconds."""
        self.stop_asked.set()
        with self._changed:
            waiting = self.state is State.QUEUED
            if waiting:
                self.end(State.STOPPED)
        if waiting:
            self.turn.leave()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended; says whether it has."""
        with self._changed:
            return self._changed.wait_for(lambda: self.done, timeout)

    def begin(self) -> bool:
        with self._changed:
            if self.done:
                return False
            self.state, self.started_at = State.RUNNING, time.monotonic()
            self._changed.notify_all()
            return True

    def add(self, result: dict[str, Any]) -> None:
        with self._changed:
            self.results.append(result)
            self._changed.notify_all()

    def end(self, state: State, error: str | None = None) -> None:
        with self._changed:
            if not self.done:
                self.state, self.error, self.ended_at = state, error, time.monotonic()
            self._changed.notify_all()
