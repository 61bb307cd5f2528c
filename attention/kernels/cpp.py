"""Compiles our C++ sources to shared libraries for this processor, once, and keeps them."""

from __future__ import annotations

import ctypes
import hashlib
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from attention import settings
from attention.kernels import library_store

FLAGS = "-std=c++17 -O3 -march=native -ffp-contract=fast -fopenmp -fPIC -w"
COMPILE_SECONDS = 120


def library(what: str, name: str, sources: Sequence[Path], flags: str) -> ctypes.CDLL:
    """The library made from `sources`; compiled first if there is none from this compiler for this processor.

    Args:
        what: the library's name in messages.
        name: the beginning of its file's name in the data folder.
        sources: the first is compiled; it includes the others.

    Raises:
        RuntimeError: the compiler failed, its library can't be loaded, or the folder cannot be written or other users
            may write to it.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler

    compiler = get_cpp_compiler()
    command = [compiler, *shlex.split(flags)]
    target = _output(what, [compiler, "-march=native", "-Q", "--help=target", "--version"])
    made_of = [*(path.read_bytes() for path in sources), " ".join(command).encode(), target]
    key = hashlib.sha256(b"\0".join(made_of)).hexdigest()[:16]

    def compile_to(path: Path) -> None:
        # linking without -fopenmp keeps the compiler's own OpenMP library out
        _output(what, [*command, "-c", str(sources[0]), "-o", f"{path}.o"])
        try:
            _output(what, [compiler, "-shared", f"{path}.o", "-o", str(path)])
        finally:
            Path(f"{path}.o").unlink(missing_ok=True)

    try:
        path = library_store.kept(settings.load().data_path / "native", f"{name}-{key}", compile_to)
    except OSError as error:
        raise RuntimeError(f"the {what} cannot be stored in HEADSHARE_DATA_DIR: {error}") from None
    try:
        # it uses the OpenMP that torch has loaded: a second pool of threads would fight the first for the cores
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise RuntimeError(f"the compiled {what} cannot be loaded: {error}") from None


def _output(what: str, command: list[str]) -> bytes:
    done = subprocess.run(command, capture_output=True, timeout=COMPILE_SECONDS, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()
        reason = next((line for line in lines if "error" in line), "no message")
        raise RuntimeError(f"the C++ compiler failed on the {what}: {reason[:120]}")
    return done.stdout
