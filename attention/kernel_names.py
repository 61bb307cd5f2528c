"""What the implementations are called and what is to be learnt from each, for pages that do without torch.

A test holds these beside ``attention.kernels``, which they must agree with.
"""

from __future__ import annotations

from typing import NamedTuple


class KernelName(NamedTuple):
    """An implementation as shown: a label of a few words, and one line that says why it is there."""

    label: str
    why: str


DECODE: dict[str, KernelName] = {
    "repeat_sdpa": KernelName(
        "Repeat K/V, then SDPA",
        "Copies each K/V head once per query head before attending: the sharing saves memory and no time.",
    ),
    "enable_gqa": KernelName(
        "SDPA, enable_gqa=True",
        "PyTorch's own switch: no copy on this path, but each K/V head is still read once per query head.",
    ),
    "folded_sdpa": KernelName(
        "Folded, SDPA", "A group's query heads become rows of one query, so each K/V head is read once."
    ),
    "folded_matmul": KernelName(
        "Folded, matmul", "The same folding with two matrix products and a softmax: exact, and three lines."
    ),
    "tall_matmul": KernelName(
        "Folded, K·qᵀ",
        "Multiplies tall K by a thin qᵀ: the library walks K row by row, in the order it lies in memory.",
    ),
    "split_matmul": KernelName(
        "Split context",
        "Chunks of the context attend alone and are combined by log-sum-exp: work for every core at one K/V head.",
    ),
}

PREFILL: dict[str, KernelName] = {}


def label(name: str) -> str:
    """As shown; a run from another version may name one that is not known here."""
    for table in (DECODE, PREFILL):
        if name in table:
            return table[name].label
    return name.replace("_", " ")
