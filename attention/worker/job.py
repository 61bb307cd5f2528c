"""A run in the queue or in the worker, as its owner sees it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from attention.timing.device_queue import Turn


class State(StrEnum):
    """Where a run is, or how it ended."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use. None takes the server's setting, which is also the most.

    Attributes:
        seconds: longest time, counted from the start of the run.
        memory_bytes: most resident memory of the worker process.
        estimate_bytes: computed memory that the run needs. A run that can't fit is refused at once.
    """

    seconds: float | None = None
    memory_bytes: int | None = None
    estimate_bytes: int | None = None


@dataclass(eq=False)
class Job:
    """A run as its owner sees it. Fields may be read at any time, from any thread.

    Attributes:
        kind, payload: what to do, see ``worker.client.submit``.
        owner: who asked.
        device: "cpu" or "cuda".
        seconds, memory_bytes: the run's limits.
        turn: the run's ticket in the device's queue.
        state: queued, running, or how the run ended.
        results: what the run emitted so far, in order.
        progress: the share that is done, 0 to 1.
        progress_text: what the run is doing.
        summary: what the handler returned, once the run is done.
        error: one sentence for the visitor, if the run failed.
        worker_pid: the worker's process id, once a worker has the run.
        started_at, ended_at: seconds of ``time.monotonic``, None if not yet.
        stop_asked: set when somebody asked to stop the run.
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
        """Runs of this host that come before this one; 0 when this one is running or has ended."""
        return self.turn.position if self.state is State.QUEUED else 0

    def wait_s(self) -> tuple[float | None, float]:
        """Seconds until the run begins: the expected time (None if not known), and the longest possible one."""
        return self.turn.wait_s() if self.state is State.QUEUED else (0.0, 0.0)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run left the queue."""
        if self.started_at is None:
            return 0.0
        return (time.monotonic() if self.ended_at is None else self.ended_at) - self.started_at

    def stop(self) -> None:
        """End the run, or take it out of the queue. It returns at once; a running run ends within two seconds."""
        self.stop_asked.set()
        with self._changed:
            waiting = self.state is State.QUEUED
            if waiting:
                self.end(State.STOPPED)
        if waiting:
            self.turn.leave()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended, at most `timeout` seconds. Returns whether it has ended."""
        with self._changed:
            return self._changed.wait_for(lambda: self.done, timeout)

    def begin(self) -> bool:
        """Mark the run as running. Returns false if it has ended already."""
        with self._changed:
            if self.done:
                return False
            self.state, self.started_at = State.RUNNING, time.monotonic()
            self._changed.notify_all()
            return True

    def add(self, result: dict[str, Any]) -> None:
        """Add a result that the run emitted."""
        with self._changed:
            self.results.append(result)
            self._changed.notify_all()

    def end(self, state: State, error: str | None = None) -> None:
        """Mark the run as ended. Only the first call counts."""
        with self._changed:
            if not self.done:
                self.state, self.error, self.ended_at = state, error, time.monotonic()
            self._changed.notify_all()
