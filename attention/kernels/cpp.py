"""The native libraries, loaded: those that were built ahead, else compiled for this very processor, once, and kept."""

from __future__ import annotations

import ctypes
import hashlib
from functools import cache
from pathlib import Path

from attention import settings
from attention.kernels import compiler, library_store, prebuilt
from attention.kernels.libraries import FLAGS, Library

__all__ = ["FLAGS", "library", "unavailable"]


@cache
def unavailable(library: Library) -> str | None:
    """Why the library can't be had here, or None. It is None where one was built ahead, or where a compiler is."""
    return None if library.name in prebuilt.found() else compiler.missing()


def library(library: Library, flags: str = FLAGS) -> ctypes.CDLL:
    """The library, built ahead or compiled here. With other flags than the usual ones it is always compiled.

    Raises:
        RuntimeError: there is no compiler, or it failed; its library can't be loaded, or the folder cannot be written
            or other users may write to it.
    """
    ahead = prebuilt.found().get(library.name) if flags == FLAGS else None
    path = ahead or _compiled(library, flags)
    try:
        # it uses the OpenMP that torch has loaded: a second pool of threads would fight the first for the cores
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise RuntimeError(f"the {library.what} cannot be loaded: {error}") from None


def _compiled(library: Library, flags: str) -> Path:
    """The library's file in the data folder, from this compiler for this processor."""
    found = compiler.here()
    if found is None:
        raise RuntimeError(f"the {library.what} cannot be built: {compiler.missing()}")
    flags = f"{flags} {library.defines}"
    words = " ".join((*found.command, found.flags(flags)))
    made_of = [*(path.read_bytes() for path in library.sources), words.encode(), found.identity()]
    key = hashlib.sha256(b"\0".join(made_of)).hexdigest()[:16]

    def compile_to(path: Path) -> None:
        found.compile(library.what, library.sources[0], flags, path)

    try:
        return library_store.kept(settings.load().data_path / "native", f"{library.name}-{key}", compile_to)
    except OSError as error:
        raise RuntimeError(f"the {library.what} cannot be stored in HEADSHARE_DATA_DIR: {error}") from None
