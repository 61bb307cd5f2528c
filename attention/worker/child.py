"""The code inside the worker process: it takes a job as a JSON line, runs its handler and answers in JSON lines.

The parent holds this process's standard input and output. When the parent ends, in whatever way, this process ends too.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import logging
import os
import pkgutil
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import attention.jobs
from attention.log_lines import escape_control_characters

HANDLERS: dict[str, str] = {m.name: f"attention.jobs.{m.name}" for m in pkgutil.iter_modules(attention.jobs.__path__)}
"""Kind of job -> the module whose ``run(payload, emit, should_stop)`` does it. These are the modules of
``attention.jobs`` and no others."""

Emit = Callable[[dict[str, Any]], None]
ShouldStop = Callable[[], bool]

QUIET_S = 0.5
"""Work that can wait is done after so many seconds without a message."""

log = logging.getLogger(__name__)


def _die_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends, even if this process hangs in C code at that moment."""
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG, prctl(2)
        ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _be_first_to_go() -> None:
    """Have the kernel end the worker, not the server, if the host runs out of memory."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")


class _Wire:
    """JSON lines to the parent, from any thread."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, **message: Any) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            self._stream.write(line)
            self._stream.flush()


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(
            words in str(error).lower() for words in ("out of memory", "not enough memory", "can't allocate memory")
        )
    )


def _serve(job: dict[str, Any], handlers: Mapping[str, str], wire: _Wire, stop: threading.Event) -> None:
    """Run one job and report how it ended."""

    def emit(item: dict[str, Any]) -> None:
        if "progress" in item:
            wire.send(type="progress", fraction=item["progress"], text=str(item.get("message", "")))
        else:
            wire.send(type="result", data=item)

    try:
        module = importlib.import_module(handlers[job["kind"]])
        if (prepare := getattr(module, "prepare", None)) is not None:
            prepare(lambda words, share: emit({"progress": share, "message": words}))
        if (estimate := getattr(module, "estimate_bytes", None)) is not None:
            needed = int(estimate(job["payload"]))
            if needed > job["memory_bytes"]:
                wire.send(type="failed", why="too_big", needed_bytes=needed)
                return
        wire.send(type="done", data=module.run(job["payload"], emit, stop.is_set))
    except ValueError as error:
        # the user asked for something impossible, and the message is written for them
        log.info("job %s refused", job["kind"], exc_info=True)
        wire.send(type="failed", why="refused", text=str(error))
    except Exception as error:
        log.exception("job %s failed", job["kind"])
        why = "memory" if _is_out_of_memory(error) else "error"
        wire.send(type="failed", why=why, text=type(error).__name__)


def _load_what_runs_need() -> None:
    """Import what nearly every run needs, so that the first run does not wait for it. It measures nothing: only a run
    that holds the device may measure."""
    try:
        importlib.import_module("attention.jobs.bench")
    except Exception:
        log.exception("the worker could not be warmed up")


def _look_for_compilers() -> None:
    """Find the C++ compiler. Compiled implementations are timed last, so a first result does not wait for this."""
    try:
        importlib.import_module("attention.kernels.native").unavailable("cpu")
    except Exception:
        log.exception("the worker could not look for compilers")


def main(handlers: Mapping[str, str] = HANDLERS) -> None:
    """Serve jobs until standard input ends.

    ``argv``: the parent's process id, and the niceness that this process takes before the first run.

    Args:
        handlers: kind of job -> module, as HANDLERS.
    """
    parent, nice = int(sys.argv[1]), int(sys.argv[2])
    _die_with_parent(parent)
    _be_first_to_go()
    escape_control_characters()
    logging.basicConfig(level=logging.INFO, format="worker: %(message)s")
    # only messages go through the pipe: whatever a library prints goes to the log
    wire = _Wire(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)

    stop = threading.Event()
    jobs: deque[dict[str, Any]] = deque()
    when_idle: list[Callable[[], None]] = []
    arrived = threading.Condition()

    def read() -> None:
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if message["type"] == "stop":
                stop.set()
                continue
            if message["type"] == "ping":
                wire.send(type="pong")
                continue
            with arrived:
                stop.clear()
                jobs.append(message)
                arrived.notify()
        os._exit(0)  # the parent has ended or wants no more; a running handler must not delay this

    threading.Thread(target=read, daemon=True).start()
    wire.send(type="ready")
    while True:
        with arrived:
            arrived.wait_for(lambda: jobs, QUIET_S if when_idle else None)
            job = jobs.popleft() if jobs else None
        if job is None:
            when_idle.pop()()
        elif job["type"] == "warm":
            _load_what_runs_need()
            when_idle.append(_look_for_compilers)
        else:
            # until the first run, libraries are loaded and the device is calibrated at full speed: the first result
            # waits for both
            if nice and hasattr(os, "nice") and job["kind"] != "calibrate":
                os.nice(nice)
                nice = 0
            _serve(job, handlers, wire, stop)


if __name__ == "__main__":
    main()
