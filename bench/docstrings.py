"""English text that is on every machine with Python: the docstrings of the standard library and of installed packages.

Files come in order of their names, and each docstring counts once. So the same packages give the same text, and its
hash shows it.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import sysconfig
import warnings
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

MIN_CHARACTERS = 80
"""A shorter docstring mostly repeats the name of its function."""
MAX_FILE_BYTES = 2**20
SKIPPED = frozenset({"test", "tests", "testing", "__pycache__", "pydoc_data", "node_modules"})
"""pydoc_data is the held-out text."""


@dataclass(frozen=True)
class Docstrings:
    """The texts, the packages they come from (top-level name -> characters), and the number of files read."""

    texts: tuple[str, ...]
    packages: dict[str, int]
    n_files: int

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for text in self.texts:
            digest.update(text.encode("utf-8", errors="replace") + b"\0")
        return digest.hexdigest()


def collect(max_files: int | None = None, processes: int | None = None) -> Docstrings:
    """Every docstring of MIN_CHARACTERS or more.

    Args:
        max_files: read at most this many files, at even distances in the list (default: all).
        processes: number of processes that parse (default: one per core).
    """
    files = list(source_files())
    if max_files is not None and len(files) > max_files:
        files = files[:: -(-len(files) // max_files)]
    paths = [path for _, path in files]
    processes = processes or os.cpu_count() or 1
    if processes == 1:
        found = [docstrings_of(path) for path in paths]
    else:
        with ProcessPoolExecutor(processes) as pool:
            found = list(pool.map(docstrings_of, paths, chunksize=64))
    seen: set[str] = set()
    texts: list[str] = []
    packages: dict[str, int] = {}
    for (name, _), docs in zip(files, found, strict=True):
        top = name.split("/")[0]
        for text in docs:
            if text not in seen:
                seen.add(text)
                texts.append(text)
                packages[top] = packages.get(top, 0) + len(text)
    return Docstrings(tuple(texts), dict(sorted(packages.items(), key=lambda item: -item[1])), len(files))


def source_files() -> Iterable[tuple[str, Path]]:
    """(name, path) of the standard library's files, then of the installed packages', in order of their names."""
    seen: set[Path] = set()
    for label in ("stdlib", "purelib", "platlib"):
        root = Path(sysconfig.get_path(label))
        if root in seen or not root.is_dir():
            continue
        seen.add(root)
        inside = []
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(
                f
                for f in folders
                if f not in SKIPPED and (label != "stdlib" or f not in ("site-packages", "dist-packages"))
            )
            inside += [Path(folder, n) for n in names if n.endswith(".py")]
        for path in sorted(inside):
            name = path.relative_to(root).as_posix()
            yield (f"stdlib/{name}" if label == "stdlib" else name), path


def docstrings_of(path: Path) -> list[str]:
    """The cleaned docstrings of one file; none if the file is too large or does not parse."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text is not None and len(text := inspect.cleandoc(text)) >= MIN_CHARACTERS:
                found.append(text)
    return found
