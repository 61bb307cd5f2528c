"""English text that every Python installation has: the language reference in ``pydoc_data.topics``."""

from __future__ import annotations

import ast
import inspect
import sysconfig
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from attention.llm.tokens import Tokens


@cache
def text() -> str:
    """The reference's topics in alphabetic order, with a blank line between two."""
    from pydoc_data import topics

    return "\n\n".join(topics.topics[name].strip() for name in sorted(topics.topics))


def fill(tokens: Tokens, n: int) -> list[int]:
    """The first `n` tokens of :func:`text`, which is repeated if it is too short."""
    if not n:
        return []
    # a token of English has about four characters
    found = tokens.encode(text()[: 8 * n])
    if len(found) < n:
        found = tokens.encode(text())
    return (found * (n // len(found) + 1))[:n]


def windows(tokens: Tokens, length: int, n: int) -> list[list[int]]:
    """`n` pieces of `length` tokens, spread evenly over the whole text.

    Raises:
        ValueError: the text is shorter than one piece, or n is below 1.
    """
    ids: Sequence[int] = tokens.encode(text())
    last = len(ids) - length
    if last < 0 or n < 1:
        raise ValueError(f"length must be from 2 to {len(ids):,} and n at least 1, got {length:,} and {n:,}")
    starts = [last * i // max(1, n - 1) for i in range(n)]
    return [list(ids[start : start + length]) for start in starts]


CALIBRATION_WINDOWS, CALIBRATION_LENGTH = 12, 256
_MIN_DOCSTRING = 200


def calibration(tokens: Tokens) -> list[list[int]]:
    """Windows of a text to calibrate a merge on. It is no part of :func:`text`: the longer docstrings of the library.

    Raises:
        ValueError: this Python's standard library has too few docstrings.
    """
    wanted = CALIBRATION_WINDOWS * CALIBRATION_LENGTH
    ids: list[int] = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for docstring in _docstrings(path):
            ids += tokens.encode(docstring + "\n\n")
        if len(ids) >= wanted:
            break
    if len(ids) < wanted:
        raise ValueError("this Python's standard library has no docstrings, so nothing is here to merge heads on")
    return [ids[at : at + CALIBRATION_LENGTH] for at in range(0, wanted, CALIBRATION_LENGTH)]


def _docstrings(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, kinds))
    return [inspect.cleandoc(one) for one in found if one and len(one) >= _MIN_DOCSTRING]
