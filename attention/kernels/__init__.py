"""The ways to compute one step of attention, from naive to fast, one name each.

``IMPLEMENTATIONS[name].run(q, k, v)`` computes decode attention, ``PREFILL[name].run(q, k, v)`` a causal prefill.
All are tested against ``attention.reference``.
"""

from __future__ import annotations

from attention.cases import Case
from attention.kernels import plain, prefill
from attention.kernels.implementation import Implementation

__all__ = ["IMPLEMENTATIONS", "PREFILL", "Implementation", "implementation", "suited"]

_DECODE = (
    Implementation(
        "repeat_sdpa",
        "Repeat K/V, then SDPA",
        "Copies each K/V head once per query head before attending: the sharing saves memory and no time.",
        plain.repeat_sdpa,
        copies=lambda group_size: float(group_size),
    ),
    Implementation(
        "enable_gqa",
        "SDPA, enable_gqa=True",
        "PyTorch's own switch: no copy on this path, but each K/V head is still read once per query head.",
        plain.enable_gqa,
        copies=lambda group_size: float(group_size),
    ),
    Implementation(
        "folded_sdpa",
        "Folded, SDPA",
        "A group's query heads become rows of one query, so each K/V head is read once.",
        plain.folded_sdpa,
    ),
    Implementation(
        "folded_matmul",
        "Folded, matmul",
        "The same folding with two matrix products and a softmax: exact, and three lines.",
        plain.folded_matmul,
    ),
    Implementation(
        "tall_matmul",
        "Folded, K·qᵀ",
        "Multiplies tall K by a thin qᵀ: the library walks K row by row, in the order it lies in memory.",
        plain.tall_matmul,
    ),
    Implementation(
        "split_matmul",
        "Split context",
        "Chunks of the context attend alone and are combined by log-sum-exp: work for every core at one K/V head.",
        plain.split_matmul,
    ),
)

IMPLEMENTATIONS: dict[str, Implementation] = {i.name: i for i in _DECODE}
"""Decode implementations by name, from naive to fast."""

PREFILL: dict[str, Implementation] = {
    i.name: i
    for i in (
        Implementation(
            "repeat_sdpa",
            "Repeat K/V, then SDPA",
            "Copies each K/V head once per query head; beside a prefill's arithmetic the copy costs little.",
            prefill.repeat_sdpa,
            copies=lambda group_size: float(group_size),
            holds_scores=False,
            phase="prefill",
        ),
        Implementation(
            "enable_gqa",
            "SDPA, enable_gqa=True",
            "PyTorch's own switch, fused: the scores never reach memory.",
            prefill.enable_gqa,
            copies=lambda group_size: float(group_size),
            holds_scores=False,
            phase="prefill",
        ),
        Implementation(
            "expanded_sdpa",
            "Expanded view, SDPA",
            "Query heads see their K/V head through a view of stride 0: fused, and nothing is copied.",
            prefill.expanded_sdpa,
            holds_scores=False,
            phase="prefill",
        ),
    )
}
"""Causal prefill implementations by name."""


def implementation(name: str, phase: str = "decode") -> Implementation:
    """Raises ValueError for an unknown name, listing the known ones."""
    known = IMPLEMENTATIONS if phase == "decode" else PREFILL
    if name not in known:
        raise ValueError(f"implementation must be one of {', '.join(known)} for {phase}, got {name!r}")
    return known[name]


def suited(case: Case) -> tuple[str, ...]:
    """Names of the implementations meant for the case's shape and device, from naive to fast.

    ``case.device`` must be resolved ("cpu" or "cuda"); its implementation is not looked at.
    """
    known = IMPLEMENTATIONS if case.phase == "decode" else PREFILL
    return tuple(n for n, i in known.items() if not i.unavailable(case.device) and not i.unsuited(case))
