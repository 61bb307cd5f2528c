"""What a cache holds: context, batch and format, checked once. The controls of a page ask for these three."""

from __future__ import annotations

from dataclasses import dataclass

from attention.formats import cache_format
from attention.spec import check_size

MAX_CONTEXT = 2**32
"""Longest context accepted, in tokens."""
MAX_BATCH = 2**20
"""Most sequences accepted."""


def check_context(context: int) -> int:
    """Return `context` if it is a number of tokens from 1 to MAX_CONTEXT.

    Raises:
        ValueError: it is not.
    """
    return check_size("context", context, maximum=MAX_CONTEXT)


def check_batch(batch: int) -> int:
    """Return `batch` if it is a number of sequences from 1 to MAX_BATCH.

    Raises:
        ValueError: it is not.
    """
    return check_size("batch", batch, maximum=MAX_BATCH)


@dataclass(frozen=True, slots=True)
class Load:
    """What a cache holds. The values of a Load need no further check.

    Attributes:
        context: tokens held by each sequence, 1 to MAX_CONTEXT.
        batch: number of sequences, 1 to MAX_BATCH.
        kv_dtype: the format of an element of K and V, a name of ``formats.FORMATS``.

    Raises:
        ValueError: one of them is out of range or not known.
    """

    context: int
    batch: int = 1
    kv_dtype: str = "bf16"

    def __post_init__(self) -> None:
        check_context(self.context)
        check_batch(self.batch)
        cache_format(self.kv_dtype)
