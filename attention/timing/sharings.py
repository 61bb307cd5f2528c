"""One layer timed as MHA, with its own sharing and as MQA: the cases to time, and the fastest result of each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from attention import sharing
from attention.kernels.case import Case, Result
from attention.spec import Kind, Layer
from attention.timing.views import fastest

TIMED = ("folded_sdpa", "folded_matmul", "tall_matmul", "split_matmul")
"""Implementations that read each K/V head once. The fastest of them is a sharing's time."""
_COMPARED = ("n_heads", "head_dim", "context", "dtype")
MAX_TIMED_BYTES = 256 * 2**20
"""Most bytes that a visitor's timing fills with one layer's MHA cache."""


class SharingTime(NamedTuple):
    """One sharing, and its fastest result for one decode step of one layer; None while it is not known."""

    label: str
    n_kv_heads: int
    is_model: bool
    result: Result | None = None


def timed_sharings(layer: Layer) -> tuple[int, ...]:
    """Numbers of K/V heads to time: MHA, the layer's own, MQA. The own number of a latent layer is left out, because
    latents are not heads of K and V."""
    own = () if layer.kind is Kind.LATENT else (layer.n_kv_heads,)
    return tuple(sorted({layer.n_heads, *own, 1}, reverse=True))


def timed_cases(layer: Layer, context: int, dtype: str = "float32") -> tuple[Case, ...]:
    """One decode step of one layer and one sequence, in all of TIMED, for each of ``timed_sharings``.

    The timed context is the largest power of two up to `context` whose MHA cache fits MAX_TIMED_BYTES. Values get the
    keys' head size.

    Raises:
        ValueError: the layer has no heads, or sizes beyond what can be timed.
    """
    if not layer.n_heads:
        raise ValueError("this model has no attention heads to time")

    def case(n_kv_heads: int, held: int, implementation: str) -> Case:
        return Case(implementation, layer.n_heads, n_kv_heads, layer.k_head_dim, held, 1, dtype)

    held = 1 << (context.bit_length() - 1)
    held = min(held, 2**24)
    while held > 1 and case(layer.n_heads, held, TIMED[0]).cache_bytes > MAX_TIMED_BYTES:
        held //= 2
    return tuple(case(n, held, name) for n in timed_sharings(layer) for name in TIMED)


def times(cases: Iterable[Case], results: Iterable[Result], own: int | None) -> tuple[SharingTime, ...]:
    """The fastest result of each sharing in `cases`, in their order. Results of other shapes are left out.

    Args:
        own: the model's number of K/V heads, None if it is not timed.
    """
    by_heads = {case.n_kv_heads: case for case in cases}

    def asked(case: Case) -> bool:
        like = by_heads.get(case.n_kv_heads)
        return like is not None and all(getattr(case, name) == getattr(like, name) for name in _COMPARED)

    best = fastest(result for result in results if asked(result.case))
    return tuple(SharingTime(sharing.name(case.n_heads, n), n, n == own, best.get(n)) for n, case in by_heads.items())
