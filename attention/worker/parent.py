"""A worker process as its parent handles it: start it, send and receive messages, watch its memory, end it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import psutil

from attention.settings import PROJECT

MAX_LINE_BYTES = 4 * 2**20
"""The longest message. A handler that goes wrong must not fill the server's memory."""

COMMAND = (sys.executable, "-m", "attention.worker.child")


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return 0


class WorkerLink:
    """One worker process. The thread that makes this object must live as long as the worker: on Linux the kernel ends
    the worker when that thread ends."""

    def __init__(self, device: str, nice: int = 0, command: Sequence[str] = COMMAND) -> None:
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PROJECT), environment.get("PYTHONPATH"))))
        if device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        # the worker gets its own process group: compilers and other helpers end with it, and Ctrl-C does not reach it
        self._process = subprocess.Popen(
            [*command, str(os.getpid()), str(nice)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=os.name == "posix",
        )
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._closed = False
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_signal(self) -> str | None:
        """Name of the signal that ended the worker, or None."""
        code = self._process.poll()
        if code is None or code >= 0:
            return None
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        # a line that is too long, or cut off by the worker's end, is no JSON and ends the reading
        with stream, contextlib.suppress(OSError, ValueError):
            while line := stream.readline(MAX_LINE_BYTES):
                self._messages.put(json.loads(line))
        self._messages.put(None)

    def send(self, **message: Any) -> None:
        """Send the worker a message. If the worker is gone nothing happens here; :meth:`receive` will raise."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def receive(self, timeout: float) -> dict[str, Any] | None:
        """The next message; None if none came in `timeout` seconds.

        Raises:
            EOFError: the worker is gone, and all its messages have been received.
        """
        try:
            message = self._messages.get(timeout=timeout)
        except queue.Empty:
            return None
        if message is None:
            self._messages.put(None)
            raise EOFError
        return message

    def answers(self, timeout: float) -> bool:
        """Whether the worker answers within `timeout` seconds. Its messages about an earlier run are dropped."""
        if not self.alive:
            return False
        self.send(type="ping")
        end = time.monotonic() + timeout
        with contextlib.suppress(EOFError):
            while (left := end - time.monotonic()) > 0:
                if (message := self.receive(left)) is not None and message.get("type") == "pong":
                    return True
        return False

    @property
    def frozen(self) -> bool:
        """Whether somebody has stopped the process (SIGSTOP)."""
        try:
            return bool(psutil.Process(self.pid).status() == psutil.STATUS_STOPPED)
        except psutil.Error:
            return False

    def processes(self) -> int:
        """Number of processes in the worker's group: the worker and what it has started."""
        if not hasattr(os, "getpgid"):
            return 1
        return sum(_group_of(pid) == self.pid for pid in psutil.pids() if pid >= self.pid)

    def memory_bytes(self) -> int:
        """Resident memory in bytes of the worker and of the processes that it started."""
        total = 0
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    total += one.memory_info().rss
        return total

    def close(self) -> None:
        """End the worker and the processes that it started, now, and leave no zombie. It may be called again."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            if os.name == "posix":
                os.killpg(self.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
