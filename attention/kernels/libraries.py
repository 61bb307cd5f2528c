"""The native libraries: what each is made from. The list is free of torch, so that a builder needs only a compiler."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from attention.kernels.targets import TARGETS, Target, abi

HERE = Path(__file__).parent
FLAGS = "-std=c++17 -O3 -march=native -ffp-contract=fast -fopenmp -fPIC -w"
HEAD_DIMS = (64, 80, 96, 128, 192, 256, 512)
"""Head sizes for which the decode kernel is built ahead: those of the catalogue. Others need a compiler at run time."""


@dataclass(frozen=True)
class Library:
    """A native library.

    Attributes:
        what: its name in messages.
        name: the beginning of its file's name.
        sources: the first is compiled; it includes the others.
        defines: flags of this library alone.
    """

    what: str
    name: str
    sources: tuple[Path, ...]
    defines: str = ""

    def flags(self, target: Target) -> str:
        """All flags of the compiler for a target."""
        return f"{FLAGS.replace('-march=native', target.flags)} {self.defines}".rstrip()

    def stem(self, target: Target) -> str:
        """The file's name before the hash of its content: library, target, hash of what it is made from."""
        made_of = [*(path.read_bytes() for path in self.sources), self.flags(target).encode(), abi().encode()]
        key = hashlib.sha256(b"\0".join(made_of)).hexdigest()[:16]
        return f"{self.name}-{target.name}-{key}"

    def targets(self) -> tuple[Target, ...]:
        """The targets for which the sources give different libraries, the widest first."""
        text = "".join(path.read_text(encoding="utf-8") for path in self.sources)
        return tuple(target for target in TARGETS if target.tells in text)


def decode(head_dim: int) -> Library:
    """Decode attention of one head size."""
    sources = tuple(HERE / name for name in ("native.cpp", "registers.h", "threads.h"))
    return Library("decode kernel", f"decode-{head_dim}", sources, f"-DHEAD_DIM={head_dim}")


MATVEC = Library(
    "matrix-vector products",
    "matvec",
    tuple(HERE / name for name in ("matvec.cpp", "nibbles.h", "registers.h", "threads.h", "layer.h")),
)
KINDS = Library(
    "kernel over kinds of cache",
    "kinds",
    (
        *(HERE / "kinds" / f"native{rest}" for rest in (".cpp", "_buffers.h", "_products.h", "_rows.h")),
        *(HERE / name for name in ("registers.h", "threads.h")),
    ),
)
ROUNDING = Library("rounding of a cache's rows", "rounding", (HERE / "kinds/rounding.cpp",))

LIBRARIES = (MATVEC, KINDS, ROUNDING, *(decode(head_dim) for head_dim in HEAD_DIMS))
"""All that are built ahead."""
