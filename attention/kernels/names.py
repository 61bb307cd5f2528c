"""Labels of the implementations, and one line on what each teaches: the one table of both, free of torch.

``attention.kernels.registry`` has their functions.
"""

from __future__ import annotations

from typing import NamedTuple


class KernelName(NamedTuple):
    """An implementation as shown: a label of a few words, and one line on what it teaches."""

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
        "Folded, SDPA",
        "A group's query heads become rows of one query, so each K/V head is read once.",
    ),
    "folded_matmul": KernelName(
        "Folded, matmul",
        "The same folding with two matrix products and a softmax: exact, and three lines.",
    ),
    "tall_matmul": KernelName(
        "Folded, K·qᵀ",
        "Multiplies tall K by a thin qᵀ: the library walks K row by row, in the order it lies in memory.",
    ),
    "split_matmul": KernelName(
        "Split context",
        "Chunks of the context attend alone and are combined by log-sum-exp: work for every core at one K/V head.",
    ),
    "split_compiled": KernelName(
        "Split context, compiled",
        "The split context with all between its products fused into one pass: partial scores stay in the core.",
    ),
    "native": KernelName(
        "Native, one pass",
        "Written for the processor: each K/V head is read once, in order, by all cores, for the whole group.",
    ),
    "flex": KernelName(
        "FlexAttention",
        "PyTorch's compiled attention with its decoding kernel.",
    ),
    "flash": KernelName(
        "Folded, flash",
        "FlashAttention by name on the folded query: it reads each K/V head once, or says why it cannot.",
    ),
    "cudnn": KernelName(
        "Folded, cuDNN",
        "NVIDIA's own fused kernel by name, on the folded query.",
    ),
    "efficient": KernelName(
        "Folded, memory-efficient",
        "The fused kernel that also takes float32, on the folded query.",
    ),
}

PREFILL: dict[str, KernelName] = {
    "repeat_sdpa": KernelName(
        "Repeat K/V, then SDPA",
        "Copies each K/V head once per query head; beside a prefill's arithmetic the copy costs little.",
    ),
    "enable_gqa": KernelName(
        "SDPA, enable_gqa=True",
        "PyTorch's own switch, fused: the scores never reach memory.",
    ),
    "expanded_sdpa": KernelName(
        "Expanded view, SDPA",
        "Query heads see their K/V head through a view of stride 0: fused, and nothing is copied.",
    ),
}

USUAL = {
    "decode": ("repeat_sdpa", "enable_gqa", "folded_sdpa", "folded_matmul", "split_compiled", "native"),
    "prefill": tuple(PREFILL),
}
"""Phase -> the implementations that are timed unless others are chosen. For decode these are two that read or copy too
much, two that do not, and two near the memory's limit."""


def table(phase: str) -> dict[str, KernelName]:
    """The implementations of "decode" or "prefill"."""
    return PREFILL if phase == "prefill" else DECODE


def label(name: str) -> str:
    """The implementation's label. A run of another version may name an unknown one: then its name, with spaces."""
    for table in (DECODE, PREFILL):
        if name in table:
            return table[name].label
    return name.replace("_", " ")
