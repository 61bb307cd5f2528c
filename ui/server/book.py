"""The tabs there are, whose they are, and what they keep of uploads. Used on the event loop alone."""

from __future__ import annotations

import ctypes
import sys
from collections import Counter
from typing import Any

from streamlit import runtime

FILE_BYTES = 4096
"""What any file counts at least: its name and record take memory too."""


def _storage() -> dict[str, dict[str, Any]]:
    """Session -> file -> its record, as Streamlit keeps uploads in memory."""
    if not runtime.exists():
        return {}
    found: dict[str, dict[str, Any]] = getattr(runtime.get_instance().uploaded_file_mgr, "file_storage", {})
    return found


class Book:
    """Open tabs by client, and bytes of uploads by tab, by client and in all."""

    def __init__(self) -> None:
        self.open: Counter[str] = Counter()
        """Client -> its open tabs."""
        self.client_of: dict[str, str] = {}
        """Session -> its client, as long as the session exists, connected or not."""
        self._sessions: dict[str, Any] = {}
        self._arriving: Counter[str] = Counter()
        """Session -> bytes of uploads under way."""

    def kept(self, session: str) -> int:
        """Bytes of the files that a session keeps or is sending."""
        files = list(_storage().get(session, {}).values())
        return self._arriving[session] + sum(max(len(file.data), FILE_BYTES) for file in files)

    def kept_by(self, client: str) -> int:
        return sum(self.kept(session) for session, owner in self.client_of.items() if owner == client)

    def kept_in_all(self) -> int:
        return sum(self.kept(session) for session in {*_storage(), *self._arriving})

    def arriving(self, session: str, size: int) -> None:
        """Count bytes of an upload under way; negative ones when it has ended."""
        self._arriving[session] += size
        if self._arriving[session] <= 0:
            del self._arriving[session]

    def enter(self, session: str, client: str) -> None:
        """Note a session that has been opened, or taken up again, by a client."""
        self.client_of[session] = client
        if runtime.exists():
            # Streamlit forgets a disconnected session that is one too many, and then nothing would end it
            self._sessions[session] = runtime.get_instance().get_app_session(session)

    def close(self, session: str) -> None:
        """End a session with all it holds: its files, the descriptors of its event loop. Not one in use."""
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
    """Have the C library return freed memory to the system: files of 1 MB lie between what stays."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
