"""The tiny models' text: the source of the Python standard library, which every Python installation has.

A hash of its path decides whether a file is held out. So a file stays on its side of the split whatever else is
installed, and no model is judged on its training text.
"""

from __future__ import annotations

import hashlib
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np

EXCLUDED = frozenset(
    {
        *("site-packages", "dist-packages", "__pycache__"),
        # tests and tables of codes do not look like ordinary Python
        *("test", "tests", "idlelib", "lib2to3", "encodings", "pydoc_data", "turtledemo"),
    }
)
HELD_OUT_SHARE = 20
"""One file in so many is held out."""
SEPARATOR = b"\0"
"""The byte before each file. Python source never contains it."""


@dataclass(frozen=True)
class SourceFile:
    """One file: its path inside the library (with /), its bytes, and whether it is held out."""

    name: str
    text: bytes
    held_out: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text).hexdigest()


@dataclass(frozen=True)
class Corpus:
    """The library's files in order of name."""

    files: tuple[SourceFile, ...]

    @property
    def sha256(self) -> str:
        """A hash of all names and texts. The same hash means the same training text and the same held-out text."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(file.name.encode() + b"\0" + file.sha256.encode() + b"\n")
        return digest.hexdigest()

    @property
    def held_out(self) -> tuple[SourceFile, ...]:
        return tuple(f for f in self.files if f.held_out)

    def train_stream(self) -> np.ndarray:
        """All training files one after the other, uint8[n_bytes]."""
        joined = b"".join(SEPARATOR + f.text for f in self.files if not f.held_out)
        return np.frombuffer(joined, dtype=np.uint8)


def _belongs(parts: tuple[str, ...]) -> bool:
    # config-* and _sysconfigdata* describe the machine on which Python was built
    machine = parts[0].startswith("config-") or parts[-1].startswith(("_sysconfigdata", "sitecustomize"))
    return not machine and not EXCLUDED.intersection(parts)


def load_corpus(root: Path | None = None) -> Corpus:
    """Read the standard library of the running Python (or the source tree at `root`).

    Raises:
        ValueError: there is too little Python source to split.
    """
    root = Path(sysconfig.get_path("stdlib")) if root is None else root
    files = []
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).parts
        if _belongs(parts) and (text := path.read_bytes()):
            name = "/".join(parts)
            held_out = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % HELD_OUT_SHARE == 0
            files.append(SourceFile(name, text, held_out))
    if not any(f.held_out for f in files) or all(f.held_out for f in files):
        raise ValueError(f"no Python source to train on in {root}")
    return Corpus(tuple(sorted(files, key=lambda f: f.name)))


def windows(text: bytes, length: int) -> np.ndarray:
    """`text` cut into rows of length + 1 bytes that overlap by one byte, uint8[n_windows, length + 1].

    So every byte but the first is predicted once. An incomplete last row is left out.
    """
    data = np.frombuffer(text, dtype=np.uint8)
    n = (len(data) - 1) // length
    if n < 1:
        return np.empty((0, length + 1), dtype=np.uint8)
    starts = np.arange(n)[:, None] * length
    return data[starts + np.arange(length + 1)]
