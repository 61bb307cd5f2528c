"""The queue of a device of this host, over all app processes: one run at a time, and clients take turns.

Each waiting run holds a ticket: an empty file whose name says when the run came and who waits. The first ticket whose
owner is alive may take the device's lock. A killed process blocks nobody: the operating system frees its lock, and its
tickets are recognised as dead.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import secrets
import stat
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import filelock
import psutil

from attention.private_folder import private_folder

MEMORY_S = 3600
"""Seconds after which a client's last run is forgotten."""


def lock_folder(directory: str = "") -> Path:
    """The folder that all app processes of this user share on this host, made if missing: `directory`, or a folder in
    the temporary one.

    Raises:
        OSError: the folder can't be made, belongs to somebody else, or can be written by everyone.
    """
    user = getattr(os, "getuid", lambda: "user")()
    folder = Path(directory) if directory else Path(tempfile.gettempdir()) / f"headshare-{user}"
    if not directory:
        # the temporary folder is shared: somebody else could have made this folder first, to block the queue
        return private_folder(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # a folder that the operator names may be a link, and shared with a group
    if hasattr(os, "getuid") and folder.stat().st_uid != user:
        raise PermissionError(f"{folder.name} belongs to another user")
    if folder.stat().st_mode & stat.S_IWOTH:
        raise PermissionError(f"{folder.name} can be written by everyone")
    return folder


def _start_of(pid: int) -> int:
    """When a process started, in clock ticks since boot (1 without /proc); 0 if there is no such process. Pids are used
    again, but a pid and its start name one process."""
    try:
        # unlike psutil's create_time, the time since boot does not move with the wall clock
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return int(psutil.pid_exists(pid)) if not Path("/proc/self/stat").exists() else 0


class Ticket(NamedTuple):
    """A run in the queue, as the name of its file says it.

    Attributes:
        arrived_ns: when the run came, in nanoseconds of the host's monotonic clock.
        pid, start: of the process that waits.
        token: makes the name unique.
        client: who waits, as :func:`tag` writes it.
        expected_s, limit_s: seconds that such runs took lately (0 if none has ended yet), and the most it may take.
        running: whether the run has the device.
    """

    arrived_ns: int
    pid: int
    start: int
    token: str
    client: str
    expected_s: int
    limit_s: int
    running: bool = False

    @property
    def name(self) -> str:
        parts = (
            f"{self.arrived_ns:020d}",
            self.pid,
            self.start,
            self.token,
            self.client,
            self.expected_s,
            self.limit_s,
        )
        return "-".join(map(str, parts)) + ("-running" if self.running else "")

    @staticmethod
    def read(name: str) -> Ticket | None:
        """The ticket of a file's name, None if the name is not a ticket's."""
        parts = name.split("-")
        if not 7 <= len(parts) <= 8 or not all(parts[i].isdigit() for i in (0, 1, 2, 5, 6)):
            return None
        arrived, pid, start, expected, limit = (int(parts[i]) for i in (0, 1, 2, 5, 6))
        return Ticket(arrived, pid, start, parts[3], parts[4], expected, limit, len(parts) == 8)


def tag(client: str) -> str:
    """A client's name in files: a hash, so that the client's address does not show."""
    return hashlib.sha256(client.encode()).hexdigest()[:12]


def in_turn(tickets: Iterable[Ticket], served_ns: Mapping[str, int]) -> list[Ticket]:
    """Tickets in the order in which they will be served: clients take turns, and the longest unserved comes first.

    A client counts as unserved since the end of its last run (`served_ns`, monotonic clock), or since its arrival if
    that is later. So a client with one run waits for the running one and for at most one run of each client before it,
    however many runs those have.
    """
    tickets = sorted(tickets)
    done = [ticket for ticket in tickets if ticket.running]
    since = dict(served_ns)
    later = max([0, *since.values(), *(ticket.arrived_ns for ticket in tickets)])
    waiting: dict[str, deque[Ticket]] = {}
    for ticket in tickets:
        if ticket.running:
            since[ticket.client] = (later := later + 1)
        else:
            waiting.setdefault(ticket.client, deque()).append(ticket)
    while waiting:
        _, _, client = min(
            (max(line[0].arrived_ns, since.get(client, 0)), line[0].arrived_ns, client)
            for client, line in waiting.items()
        )
        done.append(waiting[client].popleft())
        since[client] = (later := later + 1)
        if not waiting[client]:
            del waiting[client]
    return done


class Turn:
    """One run in the queue of a device: it holds a ticket, and the device once it is its turn."""

    def __init__(
        self, device: str, directory: str = "", client: str = "", expected_s: float = 0, limit_s: float = 0
    ) -> None:
        """Join the queue of a device, "cpu" or "cuda". Raises OSError if the queue's folder can't be written.

        Args:
            directory: see :func:`lock_folder`.
            client: who asks; clients take turns. Without one, this process is a client of its own.
            expected_s, limit_s: see :class:`Ticket`.
        """
        folder = lock_folder(directory)
        self._device, self._directory = device, str(folder)
        self._queue = folder / f"{device}.queue"
        self._queue.mkdir(mode=0o700, exist_ok=True)
        pid = os.getpid()
        start = _start_of(pid)
        # the monotonic clock is the host's, and a changed wall clock does not reorder the queue
        who = tag(client or f"{pid} {start}")
        expected, limit = math.ceil(expected_s), math.ceil(limit_s)
        self.ticket = Ticket(time.monotonic_ns(), pid, start, secrets.token_hex(4), who, expected, limit)
        (self._queue / self.ticket.name).touch(mode=0o600)
        self._lock = filelock.FileLock(
            folder / f"{device}.lock", thread_local=False, fallback_to_soft=False, preserve_lock_file=True
        )
        self._guard = threading.Lock()
        self._left = False

    @staticmethod
    def waiting(device: str, directory: str = "") -> list[Ticket]:
        """Tickets of living owners in the order in which they are served. Tickets of dead owners are removed."""
        folder = lock_folder(directory)
        queue = folder / f"{device}.queue"
        alive: dict[tuple[int, int], bool] = {}
        tickets = []
        for name in os.listdir(queue) if queue.is_dir() else ():
            if (ticket := Ticket.read(name)) is None:
                continue
            owner = (ticket.pid, ticket.start)
            if owner not in alive:
                alive[owner] = _start_of(ticket.pid) == ticket.start
            if alive[owner]:
                tickets.append(ticket)
            else:
                with contextlib.suppress(OSError):
                    (queue / name).unlink(missing_ok=True)
        return in_turn(tickets, _served(folder / f"{device}.served"))

    def _ahead(self) -> list[Ticket]:
        ahead: list[Ticket] = []
        for ticket in self.waiting(self._device, self._directory):
            if ticket.token == self.ticket.token:
                return ahead
            ahead.append(ticket)
        return []

    @property
    def position(self) -> int:
        """Runs ahead of this one, the running one included; 0 when it is its turn."""
        return len(self._ahead())

    def wait_s(self) -> tuple[float | None, float]:
        """Seconds until it is this run's turn: the expected time, and the longest possible one.

        They add up what is left of `expected_s` (None if one is not known) and of the limits of the runs ahead."""
        expected: float | None = 0.0
        most = 0.0
        for ticket in self._ahead():
            gone = _running_for(self._queue / ticket.name) if ticket.running else 0.0
            most += max(0.0, ticket.limit_s - gone)
            if expected is not None:
                expected = expected + max(1.0, ticket.expected_s - gone) if ticket.expected_s else None
        return expected, most

    def take(self) -> bool:
        """Take the device if it is this run's turn, and say whether that succeeded. It never waits."""
        if self.position:
            return False
        with self._guard:
            if self._left:
                return False
            try:
                self._lock.acquire(timeout=0)
            except filelock.Timeout:
                return False
            running = self.ticket._replace(running=True)
            with contextlib.suppress(OSError):
                (self._queue / self.ticket.name).rename(self._queue / running.name)
                _stamp(self._queue / running.name)
                self.ticket = running
            return True

    def leave(self) -> None:
        """Give back the ticket and the device. It may be called again, and from any thread."""
        with self._guard:
            self._left = True
            with contextlib.suppress(OSError):
                if self.ticket.running:
                    served = self._queue.with_suffix(".served")
                    served.mkdir(mode=0o700, exist_ok=True)
                    (served / self.ticket.client).touch(mode=0o600)
                    _stamp(served / self.ticket.client)
            for ticket in {self.ticket, self.ticket._replace(running=False)}:
                with contextlib.suppress(OSError):
                    (self._queue / ticket.name).unlink(missing_ok=True)
            self.ticket = self.ticket._replace(running=False)
            self._lock.release()


def _stamp(path: Path) -> None:
    """Write this moment of the monotonic clock as the file's time."""
    now = time.monotonic_ns()
    os.utime(path, ns=(now, now))


def _running_for(path: Path) -> float:
    try:
        return max(0.0, (time.monotonic_ns() - path.stat().st_mtime_ns) / 1e9)
    except OSError:
        return 0.0


def _served(folder: Path) -> dict[str, int]:
    """Client -> when its last run ended. Entries older than MEMORY_S, or from before the last boot, are removed."""
    found = {}
    now = time.monotonic_ns()
    for name in os.listdir(folder) if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            ended = (folder / name).stat().st_mtime_ns
            if now - MEMORY_S * 10**9 <= ended <= now:
                found[name] = ended
            else:
                (folder / name).unlink(missing_ok=True)
    return found


@contextlib.contextmanager
def turn(
    device: str, directory: str = "", poll_s: float = 0.1, waiting: Callable[[int], None] = lambda position: None
) -> Iterator[None]:
    """Wait for the device and hold it. A command that measures beside a running server uses this.

    Args:
        device: "cpu" or "cuda".
        directory: the queue's folder; empty takes the host's own.
        poll_s: seconds between two looks.
        waiting: called once with the number of runs ahead, if the device is not free at once.
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
