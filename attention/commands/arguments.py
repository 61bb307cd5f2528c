"""Shared by the commands, and no command itself: types of arguments, and the line about a device that is busy."""

from __future__ import annotations

import argparse
import sys

from attention.errors import shown
from attention.formats import FORMATS

DEFAULT_CONTEXT = 8192
_SPELLINGS = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float": "fp32"}


def whole_number(text: str) -> int:
    """A whole number as typed: 131072, 131_072, 128k, 1M, 1G (binary)."""
    scale = {"k": 2**10, "m": 2**20, "g": 2**30}.get(text[-1:].lower(), 1)
    try:
        return int(text[:-1] if scale > 1 else text) * scale
    except ValueError:
        raise argparse.ArgumentTypeError(f"a whole number is needed, got {shown(text)}") from None


def memory(text: str) -> int:
    """Bytes as typed: 32212254720, 30G or 30GiB (binary)."""
    try:
        return whole_number(text.removesuffix("iB"))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"bytes are needed, such as 30GiB or 30G, got {shown(text)}") from None


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers separated by commas."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"whole numbers separated by commas, got {shown(text)}") from None


def dtype_name(text: str) -> str:
    """A cache format's name. torch's names of the plain dtypes are accepted too."""
    name = _SPELLINGS.get(text, text)
    if name not in FORMATS:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(FORMATS)}; got {shown(text)}")
    return name


def tell_of_waiting(position: int) -> None:
    """Say on standard error that `position` other runs of this machine come first."""
    runs = "1 run comes" if position == 1 else f"{position} runs come"
    print(f"waiting: {runs} first on this machine", file=sys.stderr, flush=True)
