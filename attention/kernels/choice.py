"""Which implementation to use: by measurement where there is one, else by a rule that says its reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from attention.kernels.case import Case, Result
from attention.units import duration


class Choice(NamedTuple):
    """An implementation's name, why it was picked, and its time in seconds where it was measured."""

    name: str
    why: str
    median_s: float | None = None


_RULES = {
    ("decode", "cpu"): (
        ("native", "one pass in memory's own order serves all query heads of a group, on every core"),
        ("split_compiled", "a head_dim that fills no register: chunked matrix products, fused"),
        ("tall_matmul", "no compiler here: thin products that walk K in the order it lies"),
        ("folded_matmul", "no compiler here: each K/V head is read once"),
    ),
    ("decode", "cuda"): (
        ("flash", "16-bit: the fused kernel on the folded query reads each K/V head once and splits the context"),
        ("flex", "float32: FlexAttention's decoding kernel splits the context"),
        ("efficient", "float32 without Triton: the fused kernel that takes it"),
        ("folded_matmul", "runs everywhere and reads each K/V head once"),
    ),
    ("prefill", "cpu"): (("expanded_sdpa", "fused and without a copy"),),
    ("prefill", "cuda"): (("enable_gqa", "fused; the kernel groups the heads itself"),),
}


def pick(case: Case, suited: Sequence[str], timed: Iterable[Result]) -> Choice:
    """See ``attention.kernels.registry.fastest``; `suited` are the names that can run the case."""
    own = [r for r in timed if r.median_s is not None and _shape(r) == case.shape]
    if own:
        best = min(own, key=lambda r: r.median_s or 0.0)
        assert best.median_s is not None
        return Choice(
            best.implementation,
            f"fastest of {len(own)} timed here for this shape: {duration(best.median_s)}",
            best.median_s,
        )
    for name, why in _RULES[case.phase, case.device]:
        if name in suited:
            return Choice(name, why)
    raise AssertionError(f"no rule fits {case}")


def _shape(r: Result) -> tuple[object, ...]:
    return (r.n_heads, r.n_kv_heads, r.head_dim, r.context, r.batch, r.dtype, r.device, r.phase)
