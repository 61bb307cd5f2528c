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
from collections.abc import Callable, Sequence
from pathlib import Path

from attention.files import sync
from attention.private_folder import private_folder, why_not_ours

log = logging.getLogger(__name__)

TRIAL = """
import ctypes, os, sys
dlopen = ctypes.CDLL(None).dlopen
dlopen.restype, dlopen.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_int)
for path in sys.argv[1:]:
    print("yes" if dlopen(os.fsencode(path), os.RTLD_LAZY) else "no", flush=True)
"""
"""Loads libraries lazily and prints an answer for each. ctypes would look up all functions of other libraries at once,
and torch brings OpenMP's."""
TRIAL_SECONDS = 60


def kept(folder: Path, name: str, compile_to: Callable[[Path], None], *, mode: int = 0o600, trial: bool = True) -> Path:
    """The path of the library `name` in `folder`: the stored one if it is whole and ours, else a new one.

    Args:
        name: identifies everything that the library is made from (sources, compiler, processor).
        compile_to: compiles a new library to the path that it is given.
        mode: the file's permissions.
        trial: load the library in another process; False for a library of another kind of processor.

    Raises:
        OSError: the folder cannot be written, or other users may write to it.
        RuntimeError: the compiled library cannot be loaded.
    """
    private_folder(folder)
    for path in sorted(folder.glob(f"{name}-*.so")):
        if (why := _why_unusable(path, trial)) is None:
            return path
        log.warning("the compiled library %s %s: it is made again", path.name, why)
        with contextlib.suppress(OSError):
            path.unlink()
    aside = folder / f".{name}.{os.getpid()}"
    try:
        compile_to(aside)
        aside.chmod(mode)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        path = folder / f"{name}-{digest(aside)}.so"
        aside.replace(path)
        sync(folder)
    finally:
        aside.unlink(missing_ok=True)
    if (why := _why_unusable(path, trial)) is not None:
        raise RuntimeError(f"the compiled library {why}")
    return path


def unusable(paths: Sequence[Path]) -> dict[Path, str]:
    """Which of the libraries cannot be used, and why. All others are loaded in one other process, which takes as long
    as one of them would."""
    why = {path: reason for path in paths if (reason := _why_not_whole(path)) is not None}
    whole = [path for path in paths if path not in why]
    return why | {path: "does not load" for path, loads in zip(whole, _trial(whole), strict=True) if not loads}


def _why_unusable(path: Path, trial: bool) -> str | None:
    return unusable([path]).get(path) if trial else _why_not_whole(path)


def _why_not_whole(path: Path) -> str | None:
    try:
        if (why := why_not_ours(path)) is not None:
            return why
        if not re.fullmatch(rf".+-{digest(path)}\.so", path.name):
            return "is not what its name says"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def _trial(paths: Sequence[Path]) -> list[bool]:
    """For each library, whether it loads in another process. After one that ends the process, the rest is tried in a
    new process."""
    loads: list[bool] = []
    while len(loads) < len(paths):
        command = [sys.executable, "-I", "-S", "-c", TRIAL, *map(str, paths[len(loads) :])]
        try:
            done = subprocess.run(command, capture_output=True, timeout=TRIAL_SECONDS, check=False)
            answers = done.stdout.split()
            ended = done.returncode != 0
        except subprocess.TimeoutExpired as late:
            answers, ended = (late.stdout or b"").split(), True
        loads += [answer == b"yes" for answer in answers]
        if ended and len(loads) < len(paths):
            loads.append(False)
    return loads


def digest(path: Path) -> str:
    """The hash of a library's content, as its file name has it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]
