"""Files that a user names on the command line, before they are opened: what is not an ordinary file is refused. And
files that must be on the disk before the program goes on."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def ordinary(path: Path) -> Path:
    """`path`, if it is an ordinary file or nothing is there, which opening it will say better.

    Raises:
        ValueError: a pipe or a device, which might never end or never begin; a folder; a link that leads to itself.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return path
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"
        raise ValueError(f"{path} is {kind}, not an ordinary file")
    return path


def resolved(path: Path) -> Path:
    """`path` with every link followed.

    Raises:
        ValueError: a link leads back to itself.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # RuntimeError before Python 3.13
        raise ValueError(f"{path} is a link that leads back to itself") from None


def sync(path: Path) -> None:
    """Put a file, or a folder's list of names, on the disk: a power cut then leaves no renamed folder with holes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
