"""Whose turn it is on a device of this host: one run at a time, first come first served, over all app processes.

Each waiting run holds a ticket, an empty file whose name sorts by arrival and says who waits; the first ticket
whose owner is alive may take the device's lock. Both are the kernel's to clear up: a killed owner's lock is freed
and its tickets are recognised as dead.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import psutil


def lock_folder(directory: str = "") -> Path:
    """The folder all app processes of this user share on this host, made if missing.

    Raises:
        OSError: it can't be made, or it belongs to somebody else.
    """
    user = getattr(os, "getuid", lambda: "user")()
    folder = Path(directory) if directory else Path(tempfile.gettempdir()) / f"headshare-{user}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid") and folder.stat().st_uid != user:
        # in a shared temporary folder somebody else could have made it first, to hold everyone up
        raise PermissionError(f"{folder.name} belongs to another user")
    return folder


def _start_of(pid: int) -> int:
    """When a process started, in clock ticks: with the pid it names one process for good. 0 if there is none."""
    try:
        # the time since boot does not move with the wall clock, unlike psutil's create_time
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return int(psutil.pid_exists(pid)) if not Path("/proc/self/stat").exists() else 0


class Turn:
    """One run's place in the queue of a device."""

    def __init__(self, device: str, directory: str = "") -> None:
        """Raises OSError where the queue's folder can't be written."""
        folder = lock_folder(directory)
        self._queue = folder / f"{device}.queue"
        self._queue.mkdir(mode=0o700, exist_ok=True)
        pid = os.getpid()
        # the monotonic clock is the host's, and a changed wall clock does not reorder the queue
        name = f"{time.monotonic_ns():020d}-{pid}-{_start_of(pid)}-{secrets.token_hex(4)}"
        self._ticket = self._queue / name
        self._ticket.touch(mode=0o600)
        self._lock = filelock.FileLock(
            folder / f"{device}.lock", thread_local=False, fallback_to_soft=False, preserve_lock_file=True
        )
        self._guard = threading.Lock()
        self._left = False

    @staticmethod
    def waiting(device: str, directory: str = "") -> list[str]:
        """Tickets of living owners, first first; dead ones are removed on the way."""
        queue = lock_folder(directory) / f"{device}.queue"
        alive: dict[tuple[str, str], bool] = {}
        tickets = []
        for name in sorted(os.listdir(queue)) if queue.is_dir() else ():
            parts = name.split("-")
            if len(parts) != 4 or not (parts[1].isdigit() and parts[2].isdigit()):
                continue
            owner = (parts[1], parts[2])
            if owner not in alive:
                alive[owner] = _start_of(int(parts[1])) == int(parts[2])
            if alive[owner]:
                tickets.append(name)
            else:
                with contextlib.suppress(OSError):
                    (queue / name).unlink(missing_ok=True)
        return tickets

    @property
    def position(self) -> int:
        """Runs ahead of this one, the running one included; 0 when it is its turn."""
        queue = self._queue
        tickets = self.waiting(queue.name.removesuffix(".queue"), str(queue.parent))
        return sum(name < self._ticket.name for name in tickets)

    def take(self) -> bool:
        """Take the device if it is this run's turn; never waits."""
        if self.position:
            return False
        with self._guard:
            if self._left:
                return False
            try:
                self._lock.acquire(timeout=0)
            except filelock.Timeout:
                return False
            return True

    def leave(self) -> None:
        """Give back the ticket and the device; may be called again, and from any thread."""
        with self._guard:
            self._left = True
            with contextlib.suppress(OSError):
                self._ticket.unlink(missing_ok=True)
            self._lock.release()


@contextlib.contextmanager
def turn(
    device: str, directory: str = "", poll_s: float = 0.1, waiting: Callable[[int], None] = lambda position: None
) -> Iterator[None]:
    """Wait for the device and hold it: for a command line that measures beside a running server.

    Args:
        device: "cpu" or "cuda".
        directory: the queue's folder, the host's own by default.
        poll_s: how often to look, in seconds.
        waiting: told once, with the number of runs that come first, if any do.
    """
    mine = Turn(device, directory)
    try:
        if not mine.take():
            waiting(mine.position)
            while not mine.take():
                time.sleep(poll_s)
        yield
    finally:
        mine.leave()
