"""Our C++ sources made into shared libraries for the processor at hand, once, and then kept."""

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
    """The library of the first of the sources, which includes the others; compiled unless it was, by this compiler, for
    this processor.

    Args:
        what: as in messages. name: of its file in the data folder.

    Raises:
        RuntimeError: the compiler failed, what it made can't be loaded, or the folder cannot be written or is not
            ours alone.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler

    compiler = get_cpp_compiler()
    command = [compiler, *shlex.split(flags)]
    target = _output(what, [compiler, "-march=native", "-Q", "--help=target", "--version"])
    made_of = [*(path.read_bytes() for path in sources), " ".join(command).encode(), target]
    key = hashlib.sha256(b"\0".join(made_of)).hexdigest()[:16]

    def compile_to(path: Path) -> None:
        # linked apart from -fopenmp, so that no OpenMP of its own comes with it
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
        # its threads are those of the OpenMP that torch has loaded: a second pool would fight the first for the cores
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
