"""One device's queue in this process: it sends its runs in turn to the worker process and follows them to their end."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from attention.settings import Settings
from attention.timing.device_queue import Turn
from attention.units import binary_bytes, duration
from attention.worker.job import Job, State
from attention.worker.parent import WorkerLink
from attention.worker.times import Times

log = logging.getLogger(__name__)

STOP_GRACE_S = 1.0
"""Seconds in which a run may react to a stop; then its process is ended."""
PING_S = 10.0
"""Seconds in which the worker of the last run must answer, or the next run gets a fresh one."""
FROZEN_S = 5.0
"""Seconds after which a worker that somebody stopped (SIGSTOP) during a run is ended."""
MAX_RESULTS = 10_000
MAX_PROCESSES = 256
"""Most processes of a worker's group. Compilers may run several processes per core."""


class RunQueue:
    """One device's queue in this process, and its worker."""

    def __init__(self, device: str, settings: Settings, command: Sequence[str], times: Times) -> None:
        self._device, self._settings, self._command, self._times = device, settings, command, times
        self._jobs: deque[Job] = deque()
        self._arrived = threading.Condition()
        self._closing = False
        self._warm = False
        self.link: WorkerLink | None = None
        self._thread = threading.Thread(target=self._loop, name=f"runs on {device}", daemon=True)
        self._thread.start()

    def jobs_of(self, owner: str) -> int:
        """Number of an owner's runs that have not ended."""
        with self._arrived:
            return sum(job.owner == owner and not job.done for job in self._jobs)

    def add(self, job: Job) -> None:
        """Put a run into the queue."""
        with self._arrived:
            self._jobs.append(job)
            self._arrived.notify()

    def warm(self) -> bool:
        """Have a worker started before a run needs it, and return whether one is started.

        Like every worker it ends when it is idle for too long.
        """
        with self._arrived:
            starts = self.link is None and not self._jobs and not self._warm
            self._warm = self._warm or starts
            self._arrived.notify()
        return starts

    def close(self) -> None:
        """End the worker and all runs."""
        with self._arrived:
            self._closing = True
            for job in self._jobs:
                job.stop()
            self._arrived.notify()
        self._thread.join(2 * STOP_GRACE_S)
        self._end_worker()

    def _end_worker(self) -> None:
        link, self.link = self.link, None
        if link is not None:
            link.close()

    def _start_worker(self) -> WorkerLink:
        """The living worker, or a new one. The queue's thread calls this: on Linux the kernel ends a worker when the
        thread that started it ends."""
        if self.link is None or not self.link.answers(PING_S):
            self._end_worker()
            self.link = WorkerLink(self._device, self._settings.worker_nice, self._command)
        return self.link

    def _start_warm(self) -> None:
        try:
            self._start_worker().send(type="warm")
        except OSError:
            # the first run will fail with a message for its owner
            log.exception("no worker process could be started beforehand")

    def _loop(self) -> None:
        while True:
            with self._arrived:
                idle = None if self.link is None else self._settings.worker_idle_seconds
                self._arrived.wait_for(lambda: self._jobs or self._closing or self._warm, idle)
                if self._closing:
                    break
                waiting = bool(self._jobs)
                warm, self._warm = self._warm, False
            if warm:
                self._start_warm()
            elif not waiting:
                self._end_worker()
            if not waiting:
                continue
            try:
                job = self._next()
            except OSError:
                log.exception("the queue's folder can't be used")
                job = None
            if job is None:
                time.sleep(0.05)
                continue
            try:
                self._serve(job)
            except Exception:
                log.exception("a run of kind %s could not be carried out", job.kind)
                self._end_worker()
                job.end(State.FAILED, "The worker process could not be started or spoken to; try again in a moment.")
            finally:
                job.turn.leave()
                with self._arrived:
                    self._jobs.remove(job)
        self._end_worker()

    def _next(self) -> Job | None:
        """The run whose turn it is on this host, now holding the device; None if it is no run of this process."""
        with self._arrived:
            for job in [job for job in self._jobs if job.done]:
                self._jobs.remove(job)
            jobs = list(self._jobs)
        order = Turn.waiting(self._device, self._settings.lock_dir) if jobs else []
        mine = [job for job in jobs if order and job.turn.ticket.token == order[0].token]
        return mine[0] if mine and mine[0].turn.take() else None

    def _serve(self, job: Job) -> None:
        """Run a job that holds the device, to its end."""
        if not job.begin():
            return
        link = self._start_worker()
        job.worker_pid = link.pid
        link.send(type="run", kind=job.kind, payload=job.payload, memory_bytes=job.memory_bytes)
        if not self._follow(job, link) or link.memory_bytes() > job.memory_bytes // 2:
            # the worker is broken, or holds too much memory: the next run gets a fresh one
            self._end_worker()
        if job.state is State.DONE:
            self._times.add(job.kind, job.elapsed_s)

    def _follow(self, job: Job, link: WorkerLink) -> bool:
        """Receive the run's messages until it ends. Returns whether the worker may be used again."""
        time_limit, kill_at, over_time = time.monotonic() + job.seconds, None, False
        look_at_memory, frozen = 0.0, _Frozen()
        while True:
            try:
                message = link.receive(0.05)
            except EOFError:
                link.close()
                job.end(*_ended(job, over_time) or (State.FAILED, _died(link)))
                return False
            if message is not None and self._take_in(job, message, over_time):
                return True
            now = time.monotonic()
            over_time = over_time or now > time_limit
            if kill_at is None and (job.stop_asked.is_set() or over_time):
                link.send(type="stop")
                kill_at = now + STOP_GRACE_S
            if kill_at is not None and now > kill_at:
                link.close()
                job.end(*_ended(job, over_time) or (State.STOPPED, None))
                return False
            if len(job.results) > MAX_RESULTS:
                link.close()
                job.end(State.FAILED, f"The run was ended: it gave more than {MAX_RESULTS:,} results.")
                return False
            if now > look_at_memory:
                if (wrong := frozen.look(link.frozen, now) or _too_many(link.processes())) is not None:
                    link.close()
                    job.end(*_ended(job, over_time) or (State.FAILED, wrong))
                    return False
                used = link.memory_bytes()
                if used > job.memory_bytes:
                    link.close()
                    job.end(State.FAILED, _too_big(used, job, "used"))
                    return False
                # every look costs the server a little, and a run fills memory at a few GiB/s at most
                look_at_memory = now + 0.1

    def _take_in(self, job: Job, message: dict[str, Any], over_time: bool) -> bool:
        """Write one message to the job. Returns whether it was the run's last."""
        match message:
            case {"type": "result", "data": data}:
                job.add(data)
            case {"type": "progress", "fraction": fraction, "text": text}:
                job.progress, job.progress_text = min(1.0, max(0.0, float(fraction))), text
            case {"type": "done", "data": data}:
                job.summary = data
                if (early := _ended(job, over_time)) is None:
                    job.progress = 1.0
                job.end(*early or (State.DONE, None))
                return True
            case {"type": "failed", "why": why, **rest}:
                job.end(*_ended(job, over_time) or (State.FAILED, _failure(job, why, rest)))
                return True
        return False


def _ended(job: Job, over_time: bool) -> tuple[State, str | None] | None:
    """State and error of a run that was stopped or took too long, else None."""
    if job.stop_asked.is_set():
        return State.STOPPED, None
    if over_time:
        return State.FAILED, f"The run took longer than the limit of {duration(job.seconds)} and was ended."
    return None


class _Frozen:
    """How long the worker's process has been stopped (SIGSTOP)."""

    def __init__(self) -> None:
        self._since: float | None = None

    def look(self, frozen: bool, now: float) -> str | None:
        """A sentence for the visitor if the process has been stopped for FROZEN_S seconds, else None."""
        self._since = (self._since or now) if frozen else None
        if self._since is None or now - self._since < FROZEN_S:
            return None
        return (
            "The worker process was stopped from outside. Results so far are kept, and the next run gets a new worker."
        )


def _too_many(processes: int) -> str | None:
    if processes <= MAX_PROCESSES:
        return None
    return f"The run was ended: it started more than {MAX_PROCESSES} processes."


def _died(link: WorkerLink) -> str:
    how = f"was killed ({link.exit_signal})" if link.exit_signal else "ended unexpectedly"
    if link.exit_signal == "SIGKILL":
        how += ", as happens when the host runs out of memory"
    return f"The worker process {how}. Results so far are kept, and the next run gets a new worker."


def _too_big(needed: int, job: Job, verb: str) -> str:
    return (
        f"The run {verb} {binary_bytes(needed)} of memory; the limit is {binary_bytes(job.memory_bytes)}. "
        "Choose a shorter context or a smaller batch."
    )


def _failure(job: Job, why: str, rest: Mapping[str, Any]) -> str:
    match why:
        case "refused":
            return str(rest.get("text") or "The worker refused the run.")
        case "too_big":
            return _too_big(int(rest["needed_bytes"]), job, "needs")
        case "memory":
            return "The host has not enough free memory for this run. Choose a shorter context or a smaller batch."
    return f"The run failed in the worker ({rest.get('text', 'error')}). The server's log has the details."
