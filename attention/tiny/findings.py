"""What the lab shows of one conversion, in words and numbers: its cost in loss, and attention that has moved."""

from __future__ import annotations

import numpy as np


def moved_attention(before: np.ndarray, after: np.ndarray) -> float:
    """The share of their attention that heads give to other bytes: half the sum of differences, mean over all rows.

    Args:
        before, after: roots of weights, float[n_heads, length, length], heads in the same order.
    """
    return float(np.abs(before.astype(np.float64) ** 2 - after.astype(np.float64) ** 2).sum(axis=-1).mean() / 2)


def cost_finding(mha: float | None, start: float | None, end: float | None, trained: str) -> str:
    """A sentence on what the merge costs and what training wins back; losses in nats per byte.

    Args:
        trained: the training in words, such as "5 % of training".
    """
    if mha is None or start is None:
        return ""
    jump = start - mha
    if jump <= 0:
        return "Nothing is lost by the merge"
    cost = f"The merge costs {jump:.2f} nats per byte"
    if end is None:
        return cost
    back = (start - end) / jump
    if back < 0:
        return f"{cost}, and {trained} adds {end - start:.2f}"
    return f"{cost}; {trained} wins back {100 * back:.0f} % of it"
