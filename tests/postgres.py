"""A private PostgreSQL on a free loopback port, in a temporary folder, for tests/kept/test_store.py."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def programs() -> Path:
    """The folder of initdb and pg_ctl.

    Raises:
        RuntimeError: there is no PostgreSQL server on this machine; says what to install.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if found:
        return found[-1].parent
    if (on_path := shutil.which("initdb")) is not None:
        return Path(on_path).resolve().parent
    raise RuntimeError(
        "the run store is tested on a real PostgreSQL: install one (Debian: apt-get install postgresql; "
        "`make test` does so where it may)"
    )


class Cluster:
    """A database server that belongs to one test."""

    def __init__(self, folder: Path) -> None:
        self._bin, self._data = programs(), folder / "data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        # initdb refuses to run as root: where the tests run as root, the package's own user runs it
        self._user: dict[str, Any] = {}
        if os.getuid() == 0:
            owner = pwd.getpwnam("postgres")
            self._user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        self._folder = folder
        self._run("initdb", "--auth=trust", "--username=tester", "--no-sync", "--encoding=UTF8", "--locale=C")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / program), "-D", str(self._data), *arguments]
        # the server inherits these streams: if they were a pipe, it would never end
        with (self._folder / "log").open("ab") as log:
            done = subprocess.run(command, stdout=log, stderr=log, cwd=self._folder, timeout=60, **self._user)
        assert done.returncode == 0, (self._folder / "log").read_text()

    @property
    def url(self) -> str:
        return f"postgresql://tester@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        options = f"-p {self._port} -h 127.0.0.1 -k {self._folder} -F"
        self._run("pg_ctl", "start", "-w", "-l", str(self._folder / "server.log"), "-o", options)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "immediate")


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A running server; gone afterwards, with its files."""
    with tempfile.TemporaryDirectory(prefix="headshare-pg-") as name:
        server = Cluster(Path(name))
        server.start()
        try:
            yield server
        finally:
            server.stop()
