"""The implementations of attention, from naive to fast, each with a name.

``IMPLEMENTATIONS[name].run(q, k, v)`` computes decode attention, ``PREFILL[name].run(q, k, v)`` a causal prefill.
All are tested against ``attention.kernels.reference``.
"""

from __future__ import annotations

from typing import Any

from attention.kernels import compiled, fused, names, native, plain, prefill
from attention.kernels.case import Case
from attention.kernels.implementation import Attention, Implementation

__all__ = ["IMPLEMENTATIONS", "PREFILL", "Implementation", "implementation", "suited"]


def _named(name: str, compute: Attention, phase: str = "decode", **what: Any) -> Implementation:
    """An implementation with its label and its line from ``names.py``."""
    shown = names.table(phase)[name]
    return Implementation(name, shown.label, shown.why, compute, phase=phase, **what)


_DECODE = (
    _named(
        "repeat_sdpa",
        plain.repeat_sdpa,
        copies=lambda group_size: float(group_size),
    ),
    _named(
        "enable_gqa",
        plain.enable_gqa,
        copies=lambda group_size: float(group_size),
    ),
    _named(
        "folded_sdpa",
        plain.folded_sdpa,
    ),
    _named(
        "folded_matmul",
        plain.folded_matmul,
    ),
    _named(
        "tall_matmul",
        plain.tall_matmul,
    ),
    _named(
        "split_matmul",
        plain.split_matmul,
    ),
    _named(
        "split_compiled",
        compiled.split,
        unavailable=compiled.unavailable,
        compiled=True,
    ),
    _named(
        "native",
        native.decode,
        holds_scores=False,
        unavailable=native.unavailable,
        unsuited=native.unsuited,
        compiled=True,
    ),
    _named(
        "flex",
        fused.flex,
        unavailable=fused.flex_unavailable,
        unsuited=fused.flex_unsuited,
        compiled=True,
    ),
    _named(
        "flash",
        fused.flash,
        unavailable=fused.cuda_only,
        unsuited=fused.half_only,
    ),
    _named(
        "cudnn",
        fused.cudnn,
        unavailable=fused.cuda_only,
        unsuited=fused.cudnn_unsuited,
    ),
    _named(
        "efficient",
        fused.efficient,
        unavailable=fused.cuda_only,
    ),
)

IMPLEMENTATIONS: dict[str, Implementation] = {i.name: i for i in _DECODE}
"""Decode implementations by name, from naive to fast."""

PREFILL: dict[str, Implementation] = {
    i.name: i
    for i in (
        _named(
            "repeat_sdpa",
            prefill.repeat_sdpa,
            copies=lambda group_size: float(group_size),
            holds_scores=False,
            phase="prefill",
        ),
        _named(
            "enable_gqa",
            prefill.enable_gqa,
            copies=lambda group_size: float(group_size),
            holds_scores=False,
            phase="prefill",
        ),
        _named(
            "expanded_sdpa",
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

    ``case.device`` must be resolved ("cpu" or "cuda"); ``case.implementation`` is ignored.
    """
    known = IMPLEMENTATIONS if case.phase == "decode" else PREFILL
    return tuple(n for n, i in known.items() if not i.unavailable(case.device) and not i.unsuited(case))
