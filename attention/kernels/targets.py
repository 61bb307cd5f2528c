"""Kinds of processor for which the native libraries are built ahead, and what this processor can do. No torch here."""

from __future__ import annotations

import platform
import sys
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """A kind of processor.

    Attributes:
        name: part of a library's file name, and a word of the command line.
        machine: as ``platform.machine`` names it.
        flags: the compiler's; in place of ``-march=native``.
        needs: features that a processor must have, as /proc/cpuinfo names them.
        tells: what the compiler defines for this target and not for the next narrower one. A source that does not ask
            for it would give the same library again.
    """

    name: str
    machine: str
    flags: str
    needs: frozenset[str]
    tells: str


_V3 = frozenset({"avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_VNNI = _V4 | {"avx512_vnni"}
_BF16 = _VNNI | {"avx512_bf16"}
_AMX = _BF16 | {"avx512vbmi", "amx_tile", "amx_bf16"}
_VNNI_FLAGS = "-march=x86-64-v4 -mavx512vnni"

TARGETS = (
    Target(
        "x86-64-amx",
        "x86_64",
        f"{_VNNI_FLAGS} -mavx512bf16 -mavx512vbmi -mamx-tile -mamx-bf16",
        _AMX,
        "__AMX_BF16__",
    ),
    Target("x86-64-avx512-bf16", "x86_64", f"{_VNNI_FLAGS} -mavx512bf16", _BF16, "__AVX512BF16__"),
    Target("x86-64-avx512-vnni", "x86_64", _VNNI_FLAGS, _VNNI, "__AVX512VNNI__"),
    Target("x86-64-avx512", "x86_64", "-march=x86-64-v4", _V4, "__AVX512F__"),
    Target("x86-64-v3", "x86_64", "-march=x86-64-v3", _V3, ""),
    Target("aarch64", "aarch64", "-march=armv8-a", frozenset(), ""),
)
"""The widest first. There is no Arm target with bfloat16: the sources have no instruction of it for Arm, so it would be
the same library."""

_SAME = {"AMD64": "x86_64", "arm64": "aarch64"}


def machine() -> str:
    """This machine's kind of processor, "x86_64" or "aarch64" where it is one of them."""
    return _SAME.get(platform.machine(), platform.machine())


def abi() -> str:
    """The system whose libraries load here, part of what a library is named by. All built ahead use OpenMP."""
    return f"{sys.platform}-openmp"


@cache
def features() -> frozenset[str]:
    """What this processor can do, as /proc/cpuinfo names it. Without that file: as much as torch found."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return _features_of_torch()
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(found.partition(":")[2].split())


def _features_of_torch() -> frozenset[str]:
    import torch  # late: where there is no /proc the reader has torch, and the builder does not ask

    capability = torch.backends.cpu.get_cpu_capability()
    return {"AVX2": _V3, "AVX512": _V4}.get(capability, frozenset())


def suitable(has: Collection[str], on: str) -> tuple[Target, ...]:
    """The targets whose libraries run on a processor of kind `on` with the features `has`, the widest first."""
    return tuple(target for target in TARGETS if target.machine == on and target.needs <= set(has))
