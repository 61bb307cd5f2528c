"""Finds a C++ compiler that works and compiles a shared library with it. Nothing here needs torch."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from attention.errors import shown
from attention.kernels import targets

log = logging.getLogger(__name__)

COMPILE_SECONDS = 120
BUILD_SECONDS = 900
"""The longest that a library may take that is built ahead: an image for another processor is built by an emulator."""
_USES_LIBRARY = "#include <vector>\n"
_USES_OPENMP = """#include <omp.h>
#include <vector>
#if defined(__clang__) || !defined(_OPENMP)
#error the OpenMP that torch brings is the GNU compiler's
#endif
"""


@dataclass(frozen=True)
class Compiler:
    """A compiler and what it can do.

    Attributes:
        command: its words.
        openmp: it compiles for the OpenMP that torch has loaded. Otherwise a library has threads of its own.
        here: its flag for this very processor; "" if it has none.
    """

    command: tuple[str, ...]
    openmp: bool
    here: str = ""

    def flags(self, wanted: str) -> str:
        """`wanted` without what this compiler does not know."""
        words = [self.here if word == "-march=native" else word for word in shlex.split(wanted)]
        if not self.openmp:
            words = ["-pthread" if word == "-fopenmp" else word for word in words]
        return shlex.join(word for word in words if word)

    def identity(self) -> bytes:
        """What a library compiled for this very processor depends on: the compiler's version, the processor."""
        return run("a compiler", [*self.command, *shlex.split(self.here), "-dM", "-E", "-x", "c++", os.devnull])

    def compile(self, what: str, source: Path, flags: str, to: Path, seconds: float = COMPILE_SECONDS) -> None:
        """Compile `source` to the shared library `to`, in at most twice `seconds`.

        Raises:
            RuntimeError: the compiler failed.
        """
        part, flags = f"{to}.o", self.flags(flags)
        # linking without -fopenmp keeps the compiler's own OpenMP library out
        linked = () if "-fopenmp" in flags else ("-pthread",)
        try:
            run(what, [*self.command, *shlex.split(flags), "-c", str(source), "-o", part], seconds)
            run(what, [*self.command, "-shared", *linked, part, "-o", str(to)], seconds)
        finally:
            Path(part).unlink(missing_ok=True)


def run(what: str, command: list[str], seconds: float = COMPILE_SECONDS) -> bytes:
    """What the compiler prints.

    Raises:
        RuntimeError: it failed, or takes too long.
    """
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"the C++ compiler took more than {seconds:.0f} s for the {what}") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()
        reason = next((line for line in lines if "error" in line), "no message")
        raise RuntimeError(f"the C++ compiler failed on the {what}: {reason[:120]}")
    return done.stdout


def tried(command: tuple[str, ...], *, native: bool = True) -> Compiler | None:
    """The compiler of this command, if it compiles a line that uses the standard library.

    Args:
        native: it is meant for this machine, so find its flag for this very processor.
    """
    if shutil.which(command[0]) is None:
        return None
    # Arm's older clang has -mcpu=native only
    here = next((flag for flag in ("-march=native", "-mcpu=native") if _compiles(command, flag)), "") if native else ""
    if not here and not _compiles(command):
        return None
    openmp = _compiles(command, "-fopenmp", source=_USES_OPENMP)
    return Compiler(command, openmp, here)


def _compiles(command: tuple[str, ...], *flags: str, source: str = _USES_LIBRARY) -> bool:
    whole = [*command, "-std=c++17", *flags, "-S", "-x", "c++", "-", "-o", os.devnull]
    try:
        done = subprocess.run(whole, input=source.encode(), capture_output=True, timeout=COMPILE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _named() -> str:
    return os.environ.get("CXX", "").strip()


@cache
def here() -> Compiler | None:
    """This machine's compiler: the one that the variable CXX names, else the usual ones; None if none works."""
    usual = ("clang++", "g++") if sys.platform == "darwin" else ("g++", "clang++", "c++")
    commands = (tuple(shlex.split(_named())),) if _named() else tuple((name,) for name in usual)
    found = next((compiler for command in commands if (compiler := tried(command))), None)
    if found is not None and not found.openmp:
        log.info("%s has no OpenMP that goes with torch's: the kernels start threads of their own", found.command[0])
    return found


def across(machine: str) -> Compiler | None:
    """A compiler on this machine for processors of another kind; None if there is none."""
    return tried((f"{machine}-linux-gnu-g++",), native=False)


def missing() -> str | None:
    """Why nothing can be compiled on this machine, or None."""
    if here() is not None:
        return None
    if name := _named():
        return f"the C++ compiler that CXX names does not work: {shown(name)}"
    return "there is no C++ compiler that works, and nothing was built ahead for this processor"


def for_machine(machine: str) -> Compiler | None:
    """The compiler for processors of that kind: this machine's own, or one across."""
    return here() if machine == targets.machine() else across(machine)
