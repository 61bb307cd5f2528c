"""Whose turn it is on a device of this host: one run at a time, clients in turn, over all app processes.

Each waiting run holds a ticket, an empty file whose name says when it came and who waits; the first ticket whose owner
is alive may take the device's lock. Both are the kernel's to clear up: a killed owner's lock is freed and its tickets
are recognised as dead.
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
"""A client's last run is forgotten after so long."""


def lock_folder(directory: str = "") -> Path:
    """The folder all app processes of this user share on this host, made if missing.

    Raises:
        OSError: it can't be made, or it belongs to somebody else.
    """
    user = getattr(os, "getuid", lambda: "user")()
    folder = Path(directory) if directory else Path(tempfile.gettempdir()) / f"headshare-{user}"
    if not directory:
        # in a shared temporary folder somebody else could have made it first, to hold everyone up
        return private_folder(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # one that the operator names may be a link, and shared with a group
    if hasattr(os, "getuid") and folder.stat().st_uid != user:
        raise PermissionError(f"{folder.name} belongs to another user")
    if folder.stat().st_mode & stat.S_IWOTH:
        raise PermissionError(f"{folder.name} can be written by everyone")
    return folder


def _start_of(pid: int) -> int:
    """When a process started, in clock ticks: with the pid it names one process for good. 0 if there is none."""
    try:
        # the time since boot does not move with the wall clock, unlike psutil's create_time
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return int(psutil.pid_exists(pid)) if not Path("/proc/self/stat").exists() else 0


class Ticket(NamedTuple):
    """What the name of a waiting run's file says.

    Attributes:
        arrived_ns: on the host's monotonic clock.
        pid, start: of the process that waits.
        token: makes the name unique.
        client: who waits, as :func:`tag` writes it.
        expected_s: how long such runs took lately, 0 if none has ended yet; limit_s: the longest it may take.
        running: whether it has the device.
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
        """The ticket of a file's name, None if it is none."""
        parts = name.split("-")
        if not 7 <= len(parts) <= 8 or not all(parts[i].isdigit() for i in (0, 1, 2, 5, 6)):
            return None
        arrived, pid, start, expected, limit = (int(parts[i]) for i in (0, 1, 2, 5, 6))
        return Ticket(arrived, pid, start, parts[3], parts[4], expected, limit, len(parts) == 8)


def tag(client: str) -> str:
    """A client's name for files: the same for the same client, and not its address."""
    return hashlib.sha256(client.encode()).hexdigest()[:12]


def in_turn(tickets: Iterable[Ticket], served_ns: Mapping[str, int]) -> list[Ticket]:
    """Tickets as they will be served: clients take turns, and the longest unserved comes first.

    A client's place counts from the end of its last run (`served_ns`), or from its arrival if that is later: who waits
    with one run waits for the running one and for one of each client that came before, however many those have.
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
    """One run's place in the queue of a device."""

    def __init__(
        self, device: str, directory: str = "", client: str = "", expected_s: float = 0, limit_s: float = 0
    ) -> None:
        """Raises OSError where the queue's folder can't be written.

        Args:
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
        """Tickets of living owners in the order in which they are served; dead ones are removed on the way."""
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
        """Seconds until it is this run's turn: expected from how long such runs took lately, None if that is not
        known of all; and the longest that it can be, from their limits."""
        expected: float | None = 0.0
        most = 0.0
        for ticket in self._ahead():
            gone = _running_for(self._queue / ticket.name) if ticket.running else 0.0
            most += max(0.0, ticket.limit_s - gone)
            if expected is not None:
                expected = expected + max(1.0, ticket.expected_s - gone) if ticket.expected_s else None
        return expected, most

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
            running = self.ticket._replace(running=True)
            with contextlib.suppress(OSError):
                (self._queue / self.ticket.name).rename(self._queue / running.name)
                _stamp(self._queue / running.name)
                self.ticket = running
            return True

    def leave(self) -> None:
        """Give back the ticket and the device; may be called again, and from any thread."""
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
    """Note this moment of the monotonic clock as the file's time."""
    now = time.monotonic_ns()
    os.utime(path, ns=(now, now))


def _running_for(path: Path) -> float:
    try:
        return max(0.0, (time.monotonic_ns() - path.stat().st_mtime_ns) / 1e9)
    except OSError:
        return 0.0


def _served(folder: Path) -> dict[str, int]:
    """Client -> when its last run ended; what is long past, or from before the machine's last start, is removed."""
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
