"""The parent's end of a worker process: start it, speak with it, watch its memory, end it."""

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
"""No single message is longer: a runaway handler shall not fill the server."""

COMMAND = (sys.executable, "-m", "attention.worker.child")


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return 0


class WorkerLink:
    """One worker process. Start it in a thread that lives as long as the worker shall: on Linux the kernel ends
    the worker when that thread ends."""

    def __init__(self, device: str, nice: int = 0, command: Sequence[str] = COMMAND) -> None:
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PROJECT), environment.get("PYTHONPATH"))))
        if device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        # a group of its own, so that compilers and other helpers it starts end with it, and Ctrl-C does not race us
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
        """Name of the signal that ended it, if one did."""
        code = self._process.poll()
        if code is None or code >= 0:
            return None
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        # a line that was cut off, by its length or by the worker's end, is no JSON and ends the reading
        with stream, contextlib.suppress(OSError, ValueError):
            while line := stream.readline(MAX_LINE_BYTES):
                self._messages.put(json.loads(line))
        self._messages.put(None)

    def send(self, **message: Any) -> None:
        """Tell the worker something; one that is gone does not hear it, which :meth:`receive` will show."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def receive(self, timeout: float) -> dict[str, Any] | None:
        """The next message; None if none came in `timeout` seconds.

        Raises:
            EOFError: the worker is gone, and so is all it said.
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
        """Whether the worker is there and listening; what it still had to say about an earlier run is dropped."""
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
        """The worker and what it has started, counted by its group."""
        if not hasattr(os, "getpgid"):
            return 1
        return sum(_group_of(pid) == self.pid for pid in psutil.pids() if pid >= self.pid)

    def memory_bytes(self) -> int:
        """Resident memory of the worker and of what it started."""
        total = 0
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    total += one.memory_info().rss
        return total

    def close(self) -> None:
        """End the worker now, with what it started, and leave no zombie. May be called again."""
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
