"""Checks files that a user names before they are opened, and writes files through to the disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def ordinary(path: Path) -> Path:
    """`path`, if it is an ordinary file. A missing file passes too: opening it gives the better message.

    Raises:
        ValueError: a folder; a pipe or a device, whose reading might never end; a link that leads to itself.
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
        ValueError: a link that leads back to itself.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # RuntimeError before Python 3.13
        raise ValueError(f"{path} is a link that leads back to itself") from None


def sync(path: Path) -> None:
    """Write a file, or a folder's list of names, through to the disk.

    A folder that is renamed after this is complete, even after a power cut.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
