"""Shared libraries compiled here, kept from one process to the next. A library that somebody else wrote is not loaded.

A library is code that runs as this user. So nobody else may own or write the folder or a file in it, and a file's name
holds the hash of its content: another content is not loaded. A library is written aside, synced and renamed, so that a
full disk or a lost machine leaves no half of one. It is first loaded in another process: a damaged library ends the
process that maps it (SIGBUS), and no exception can catch that.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from attention.files import sync
from attention.private_folder import private_folder, why_not_ours

log = logging.getLogger(__name__)

TRIAL = """
import ctypes, os, sys
dlopen = ctypes.CDLL(None).dlopen
dlopen.restype, dlopen.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_int)
sys.exit(0 if dlopen(os.fsencode(sys.argv[1]), os.RTLD_LAZY) else 1)
"""
"""Loads a library lazily. ctypes would look up all functions of other libraries at once, and torch brings OpenMP's."""
TRIAL_SECONDS = 60


def kept(folder: Path, name: str, compile_to: Callable[[Path], None]) -> Path:
    """The path of the library `name` in `folder`: the stored one if it is whole and ours, else a new one.

    Args:
        name: identifies everything that the library is made from (sources, compiler, processor).
        compile_to: compiles a new library to the path that it is given.

    Raises:
        OSError: the folder cannot be written, or other users may write to it.
        RuntimeError: the compiled library cannot be loaded.
    """
    private_folder(folder)
    for path in sorted(folder.glob(f"{name}-*.so")):
        if (why := _why_unusable(path)) is None:
            return path
        log.warning("the compiled library %s %s: it is made again", path.name, why)
        with contextlib.suppress(OSError):
            path.unlink()
    aside = folder / f".{name}.{os.getpid()}"
    try:
        compile_to(aside)
        aside.chmod(0o600)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        path = folder / f"{name}-{_digest(aside)}.so"
        aside.replace(path)
        sync(folder)
    finally:
        aside.unlink(missing_ok=True)
    if (why := _why_unusable(path)) is not None:
        raise RuntimeError(f"the compiled library {why}")
    return path


def _why_unusable(path: Path) -> str | None:
    try:
        if (why := why_not_ours(path)) is not None:
            return why
        if not re.fullmatch(rf".+-{_digest(path)}\.so", path.name):
            return "is not what its name says"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return _trial(path)


def _trial(path: Path) -> str | None:
    """Load the library in another process: None if that succeeds, else why the library is unusable."""
    command = [sys.executable, "-I", "-S", "-c", TRIAL, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TRIAL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return "does not load"
    return None if done.returncode == 0 else "does not load"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]
