"""Long work outside the web process: timings, checks and training, one run at a time per device of the host.

``submit`` puts a run into the queue and returns a :class:`Job`. A thread per device takes the runs, clients in turn, to
a worker process. The worker is started when needed, used again, replaced when it dies, and ended when idle. The results
of a run arrive one by one, and the job keeps them however the run ends. Torch is never imported here.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import threading
from collections.abc import Sequence
from typing import Any

from attention import settings as settings_module
from attention.errors import RefusedError
from attention.settings import Settings
from attention.timing.device_queue import Turn, tag
from attention.units import binary_bytes
from attention.worker.child import HANDLERS
from attention.worker.job import (
    Job,
    Limits,
    State,
)
from attention.worker.parent import COMMAND
from attention.worker.run_queue import RunQueue
from attention.worker.times import Times

__all__ = ["Job", "Limits", "Queues", "RefusedError", "State", "prepare", "preparing", "queues", "submit", "warm"]

log = logging.getLogger(__name__)

MAX_PAYLOAD_BYTES = 2 * 2**20


class Queues:
    """The queues of runs, one per device. A process needs one object (:func:`queues`); tests make their own."""

    def __init__(
        self, settings: Settings, kinds: Sequence[str] = tuple(HANDLERS), command: Sequence[str] = COMMAND
    ) -> None:
        self.settings, self._kinds, self._command = settings, kinds, command
        self._by_device: dict[str, RunQueue] = {}
        self._times = Times()
        self._preparing: dict[str, Job] = {}
        self._lock = threading.Lock()

    def submit(
        self, kind: str, payload: dict[str, Any], *, owner: str, client: str = "", limits: Limits | None = None
    ) -> Job:
        """See :func:`submit`."""
        client = client or owner
        if kind not in self._kinds:
            raise RefusedError(f"kind must be one of {', '.join(sorted(self._kinds))}, got {kind!r}")
        if len(json.dumps(payload)) > MAX_PAYLOAD_BYTES:
            raise RefusedError(f"the run's description is longer than {binary_bytes(MAX_PAYLOAD_BYTES)}")
        limits = limits or Limits()
        memory = min(limits.memory_bytes or self.settings.job_memory_bytes, self.settings.job_memory_bytes)
        if limits.estimate_bytes is not None and limits.estimate_bytes > memory:
            raise RefusedError(
                f"this run needs {binary_bytes(limits.estimate_bytes)} of memory and may use {binary_bytes(memory)}: "
                "choose a shorter context or a smaller batch"
            )
        device = _device_of(str(payload.get("device", "auto")), self.settings)
        seconds = min(limits.seconds or self.settings.job_seconds, self.settings.job_seconds)
        with self._lock:
            if sum(queue.jobs_of(owner) for queue in self._by_device.values()) >= self.settings.session_jobs:
                count = self.settings.session_jobs
                raise RefusedError(
                    f"you have {count} {'run' if count == 1 else 'runs'} waiting or running already: "
                    "stop one, or wait until one has ended"
                )
            try:
                self._refuse_one_too_many(device, client)
                turn = Turn(device, self.settings.lock_dir, client, self._times.expected_s(kind), seconds)
            except OSError as error:
                log.exception("the queue's folder can't be used")
                raise RefusedError("this machine can't queue runs at the moment: its disk is full or closed") from error
            job = Job(kind, payload, owner, device, float(seconds), memory, turn)
            if device not in self._by_device:
                self._by_device[device] = RunQueue(device, self.settings, self._command, self._times)
            self._by_device[device].add(job)
        return job

    def warm(self) -> None:
        """See :func:`warm`."""
        if not self.settings.warm_worker:
            return
        device = _device_of("auto", self.settings)
        with self._lock:
            if device not in self._by_device:
                self._by_device[device] = RunQueue(device, self.settings, self._command, self._times)
            starts = self._by_device[device].warm()
        if starts:
            # calibration measures, so it waits its turn in the queue; nobody waits for it
            with contextlib.suppress(RefusedError):
                self.submit("calibrate", {"device": device}, owner="the server", client="the server")

    def prepare(self, kind: str) -> Job | None:
        """See :func:`prepare`."""
        if not self.settings.warm_worker:
            return None
        with self._lock:
            queue = self._by_device.get("cpu")
            link = None if queue is None else queue.link
            last = self._preparing.get(kind)
            here = link is not None and link.alive and last is not None and last.worker_pid == link.pid
            if last is not None and (here or not last.done):
                return last
        with contextlib.suppress(RefusedError):
            self._preparing[kind] = self.submit(kind, {"device": "cpu"}, owner="the server", client="the server")
            return self._preparing[kind]
        return None

    def preparing(self) -> Job | None:
        """See :func:`preparing`."""
        return next((job for job in self._preparing.values() if job.state is State.RUNNING), None)

    def _refuse_one_too_many(self, device: str, client: str) -> None:
        directory = self.settings.lock_dir
        waiting = {name: Turn.waiting(name, directory) for name in ("cpu", "cuda")}
        own = sum(ticket.client == tag(client) for tickets in waiting.values() for ticket in tickets)
        if own >= self.settings.client_jobs:
            count = self.settings.client_jobs
            raise RefusedError(
                f"your network address has {count} {'run' if count == 1 else 'runs'} waiting or running already: "
                "wait until one has ended"
            )
        if (count := len(waiting[device])) >= self.settings.max_queue:
            runs = "1 run is" if count == 1 else f"{count} runs are"
            raise RefusedError(f"{runs} waiting on this machine already: try again in a few minutes")

    def worker_pids(self) -> list[int]:
        """Process ids of the living workers."""
        links = [queue.link for queue in self._by_device.values()]
        return [link.pid for link in links if link is not None and link.alive]

    def close(self) -> None:
        """End all runs and workers."""
        for queue in self._by_device.values():
            queue.close()
        self._by_device.clear()


def _device_of(device: str, settings: Settings) -> str:
    """The device whose queue a run joins: "cuda" if the run may use a GPU of this host, else "cpu".

    Raises:
        RefusedError: `device` is CUDA, and there is none or it is switched off.
    """
    if device == "cpu":
        return "cpu"
    present = settings.use_gpu and _has_cuda()
    if device.startswith("cuda") and not present:
        raise RefusedError("this machine has no CUDA device for runs: choose the CPU")
    return "cuda" if present else "cpu"


def _has_cuda() -> bool:
    """Whether the driver finds a GPU. This does not import torch."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return bool(pynvml.nvmlDeviceGetCount() > 0)
    except Exception:
        return False


process_queues: Queues | None = None
_queues_lock = threading.Lock()


def queues() -> Queues:
    """This process's queues. The first call makes them, from the settings of that moment."""
    global process_queues
    with _queues_lock:
        if process_queues is None:
            process_queues = Queues(settings_module.load())
            atexit.register(process_queues.close)
        return process_queues


def warm() -> None:
    """Start the usual device's worker in the background, load its libraries and calibrate the device.

    A page with a Run button calls this, because a run will probably follow. It does nothing if the worker is already
    started, and it returns at once.
    """
    queues().warm()


def prepare(kind: str) -> Job | None:
    """Submit a run of `kind` to the processor's worker beforehand, so that a later run finds its work done.

    It returns at once. Called again, it does nothing as long as the run waits or that worker lives.

    Returns:
        That run; None if the settings start no worker beforehand, or if the queue is full.
    """
    return queues().prepare(kind)


def preparing() -> Job | None:
    """The run of :func:`prepare` that is running now, or None."""
    return queues().preparing()


def submit(kind: str, payload: dict[str, Any], *, owner: str, client: str = "", limits: Limits | None = None) -> Job:
    """Queue a run of ``attention.jobs.<kind>``.

    Args:
        kind: one of ``child.HANDLERS``.
        payload: plain JSON for the handler; its "device" ("cpu", "cuda", default "auto") chooses the queue.
        owner: who asks, for example a session's id. Each owner may have a few runs at once.
        client: the owner's network address, which may have a few more runs; clients take turns. By default the owner.
        limits: what the run may use; the server's own limits are the most.

    Raises:
        RefusedError: too many runs, a run that is too big, or an unknown kind or device. The message is a sentence for
            the visitor.
    """
    return queues().submit(kind, payload, owner=owner, client=client, limits=limits)
