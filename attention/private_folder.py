"""Checks that no other user of the host can have written a folder or file on which this process relies."""

from __future__ import annotations

import os
import stat
from pathlib import Path

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def why_not_ours(path: Path) -> str | None:
    """None if only this user, or root, can have written `path`; else the reason why not.

    A link is never accepted: whoever can change the link decides where it leads.
    """
    if not hasattr(os, "getuid"):
        return None
    facts = path.lstat()
    if stat.S_ISLNK(facts.st_mode):
        return "is a link"
    if facts.st_uid not in (os.getuid(), 0):
        return "belongs to another user"
    # the sticky bit does not help: it stops others from replacing files, but not from adding them
    if facts.st_mode & OTHERS_WRITE:
        return "can be written by others"
    return None


def private_folder(folder: Path) -> Path:
    """`folder`, made for this user alone if it is missing.

    Raises:
        OSError: it cannot be made, it is a link, or another user owns it or may write to it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (why := why_not_ours(folder)) is not None:
        raise PermissionError(f"{folder.name} {why}")
    return folder
