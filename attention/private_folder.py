"""Folders and files that decide what this process does, and that nobody else on the host may have written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def why_not_ours(path: Path) -> str | None:
    """None if only this user could have written `path` (and root, who can do anything); else why not. A link is not
    followed: whoever may change it decides where it leads."""
    if not hasattr(os, "getuid"):
        return None
    facts = path.lstat()
    if stat.S_ISLNK(facts.st_mode):
        return "is a link"
    if facts.st_uid not in (os.getuid(), 0):
        return "belongs to another user"
    # in a folder with the sticky bit others can add files, and not replace ours
    if facts.st_mode & OTHERS_WRITE:
        return "can be written by others"
    return None


def private_folder(folder: Path) -> Path:
    """`folder`, made for this user alone if missing.

    Raises:
        OSError: it cannot be made, it is a link, or somebody else owns it or may write to it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (why := why_not_ours(folder)) is not None:
        raise PermissionError(f"{folder.name} {why}")
    return folder
