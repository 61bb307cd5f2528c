"""The open tabs, their clients, and the bytes of their uploads. Only code on the event loop may use this."""

from __future__ import annotations

import ctypes
import sys
from collections import Counter
from typing import Any

from streamlit import runtime

FILE_BYTES = 4096
"""Every file counts at least this many bytes, because its name and record take memory too."""


def _storage() -> dict[str, dict[str, Any]]:
    """Session -> file id -> record: Streamlit's own store of uploads in memory."""
    if not runtime.exists():
        return {}
    found: dict[str, dict[str, Any]] = getattr(runtime.get_instance().uploaded_file_mgr, "file_storage", {})
    return found


class Book:
    """Open tabs by client, and bytes of uploads by tab, by client and in all."""

    def __init__(self) -> None:
        self.open: Counter[str] = Counter()
        """Client -> number of its open tabs."""
        self.client_of: dict[str, str] = {}
        """Session -> its client, while the session exists, connected or not."""
        self._sessions: dict[str, Any] = {}
        self._arriving: Counter[str] = Counter()
        """Session -> bytes of uploads that are arriving."""

    def kept(self, session: str) -> int:
        """Bytes of the files that a session keeps or is uploading."""
        files = list(_storage().get(session, {}).values())
        return self._arriving[session] + sum(max(len(file.data), FILE_BYTES) for file in files)

    def kept_by(self, client: str) -> int:
        return sum(self.kept(session) for session, owner in self.client_of.items() if owner == client)

    def kept_in_all(self) -> int:
        return sum(self.kept(session) for session in {*_storage(), *self._arriving})

    def arriving(self, session: str, size: int) -> None:
        """Count `size` bytes of an upload that begins; call it with -`size` when the upload has ended."""
        self._arriving[session] += size
        if self._arriving[session] <= 0:
            del self._arriving[session]

    def enter(self, session: str, client: str) -> None:
        """Note that a client has opened a session or connected to it again."""
        self.client_of[session] = client
        if runtime.exists():
            # if there are too many disconnected sessions, Streamlit forgets some; then only this reference can end them
            self._sessions[session] = runtime.get_instance().get_app_session(session)

    def close(self, session: str) -> None:
        """End a session and free its files and the descriptors of its event loop; nothing if it is connected."""
        if not runtime.exists() or runtime.get_instance().is_active_session(session):
            return
        self.client_of.pop(session, None)
        had_files = bool(_storage().get(session))
        instance, held = runtime.get_instance(), self._sessions.pop(session, None)
        instance.close_session(session)
        if held is not None:
            held.shutdown()
        if had_files:
            give_back_memory()


def give_back_memory() -> None:
    """Have the C library return freed memory to the system. Otherwise freed uploads between other objects stay held."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
