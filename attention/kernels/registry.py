"""The ways to compute one step of attention, from naive to fast, one name each.

``IMPLEMENTATIONS[name].run(q, k, v)`` computes decode attention, ``PREFILL[name].run(q, k, v)`` a causal prefill.
All are tested against ``attention.kernels.reference``.
"""

from __future__ import annotations

from collections.abc import Iterable

from attention.kernels import compiled, fused, native, plain, prefill
from attention.kernels.case import Case, Result
from attention.kernels.choice import Choice, pick
from attention.kernels.implementation import Implementation

__all__ = ["IMPLEMENTATIONS", "PREFILL", "Choice", "Implementation", "fastest", "implementation", "suited"]

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
    Implementation(
        "split_compiled",
        "Split context, compiled",
        "The split context with all between its products fused into one pass: partial scores stay in the core.",
        compiled.split,
        unavailable=compiled.unavailable,
        compiled=True,
    ),
    Implementation(
        "native",
        "Native, one pass",
        "Written for the processor: each K/V head is read once, in order, by all cores, for the whole group.",
        native.decode,
        holds_scores=False,
        unavailable=native.unavailable,
        unsuited=native.unsuited,
        compiled=True,
    ),
    Implementation(
        "flex",
        "FlexAttention",
        "PyTorch's compiled attention with its decoding kernel.",
        fused.flex,
        unavailable=fused.flex_unavailable,
        unsuited=fused.flex_unsuited,
        compiled=True,
    ),
    Implementation(
        "flash",
        "Folded, flash",
        "FlashAttention by name on the folded query: it reads each K/V head once, or says why it cannot.",
        fused.flash,
        unavailable=fused.cuda_only,
        unsuited=fused.half_only,
    ),
    Implementation(
        "cudnn",
        "Folded, cuDNN",
        "NVIDIA's own fused kernel by name, on the folded query.",
        fused.cudnn,
        unavailable=fused.cuda_only,
        unsuited=fused.cudnn_unsuited,
    ),
    Implementation(
        "efficient",
        "Folded, memory-efficient",
        "The fused kernel that also takes float32, on the folded query.",
        fused.efficient,
        unavailable=fused.cuda_only,
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


def fastest(case: Case, timed: Iterable[Result] = ()) -> Choice:
    """The implementation to use for a case's shape, and why: the fastest of `timed` results of that very shape, or by
    rule where none was timed. ``case.device`` must be resolved; its implementation is not looked at."""
    return pick(case, suited(case), timed)
