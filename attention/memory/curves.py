"""The data of figures: the bytes of a cache over the context or over the number of sequences, by kind of layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from attention import sharing
from attention.formats import cache_format
from attention.memory import terms
from attention.memory.footprint import CacheBytes, crossover
from attention.memory.load import MAX_BATCH, MAX_CONTEXT
from attention.spec import Kind, ModelSpec


class KindCurves(NamedTuple):
    """The bytes of a batch by kind of layer over an axis: ``by_kind[kind][i]`` and ``total[i]`` belong to ``x[i]``."""

    x: tuple[int, ...]
    by_kind: dict[Kind, tuple[int, ...]]
    total: tuple[int, ...]


def contexts_up_to(longest: int, *include: int, shortest: int = 128, per_octave: int = 4) -> tuple[int, ...]:
    """Contexts for a curve from `shortest` to `longest`: about `per_octave` per doubling, and those in `include`."""
    grid = {min(longest, MAX_CONTEXT), *include}
    step = 0
    while (value := round(shortest * 2 ** (step / per_octave))) < longest:
        grid.add(value)
        step += 1
    return tuple(sorted(grid))


def curves_over_context(spec: ModelSpec, contexts: Sequence[int], batch: int = 1, kv_dtype: str = "bf16") -> KindCurves:
    """Bytes of `batch` sequences by kind of layer at each context."""
    fmt = cache_format(kv_dtype)
    by_kind = {kind: [batch * some.at(x) for x in contexts] for kind, some in terms.by_kind(spec, fmt).items()}
    return _curves(contexts, by_kind)


def curves_over_batch(spec: ModelSpec, batches: Sequence[int], context: int, kv_dtype: str = "bf16") -> KindCurves:
    """Bytes by kind of layer at one context for each number of sequences."""
    one = curves_over_context(spec, (context,), 1, kv_dtype)
    return _curves(batches, {kind: [row[0] * b for b in batches] for kind, row in one.by_kind.items()})


def batches_around(chosen: int) -> tuple[int, ...]:
    """Numbers of sequences for a curve around the chosen number: from an eighth of it to sixteen times as many."""
    around = {chosen >> step for step in range(4)} | {chosen << step for step in range(5)}
    return tuple(sorted(b for b in around if 1 <= b <= MAX_BATCH))


def _curves(x: Sequence[int], by_kind: dict[Kind, list[int]]) -> KindCurves:
    kept = {kind: tuple(row) for kind, row in by_kind.items() if any(row)}
    return KindCurves(tuple(x), kept, tuple(sum(row[i] for row in kept.values()) for i in range(len(x))))


class ContextPicture(NamedTuple):
    """The data of the figure of a cache over the context.

    Attributes:
        curves: the model's own bytes by kind of layer.
        mha, mqa: total bytes of the model as MHA and as MQA; empty where it has no heads or is that itself.
        own: how the model shares heads, e.g. "GQA-8".
        weights: bytes of the weights, None if not known.
        crossover: first context at which the cache is larger than the weights, None if never or not known.
        chosen: the cache under the chosen load.
        max_context: longest context that the makers state, None if not stated.
    """

    curves: KindCurves
    mha: tuple[int, ...]
    mqa: tuple[int, ...]
    own: str
    weights: int | None
    crossover: int | None
    chosen: CacheBytes
    max_context: int | None


def over_context(spec: ModelSpec, cache: CacheBytes, weights: int | None = None) -> ContextPicture:
    """The cache from 128 tokens to the longest context shown.

    That is the larger of the model's longest context and the chosen one. If the cache outgrows the weights within four
    times that, the curve goes on to 1.5 times the crossover.

    Args:
        cache: the model's own cache, under the chosen load.
        weights: bytes of the weights, None if not known.

    Raises:
        ValueError: recurrent states of unknown dtype.
    """
    context, batch, kv_dtype = cache.context, cache.batch, cache.kv_dtype
    crossing = crossover(spec, weights, kv_dtype, batch)
    longest = max(context, spec.max_context or 131_072)
    if crossing is not None and longest < crossing * 1.5 <= 6 * longest:
        longest = round(crossing * 1.5)
    shown = (crossing,) if crossing is not None and crossing <= longest else ()
    xs = contexts_up_to(min(longest, MAX_CONTEXT), context, *shown, shortest=min(128, context))
    fmt = cache_format(kv_dtype)
    curves = curves_over_context(spec, xs, batch, kv_dtype)
    own = sharing.of(spec)

    def total(n_kv_heads: int | None) -> tuple[int, ...]:
        if not spec.n_heads:
            return ()
        whole = terms.shared_total(spec, n_kv_heads, fmt)
        return tuple(batch * whole.at(x) for x in xs)

    return ContextPicture(
        curves,
        () if own == "MHA" else total(None),
        () if own == "MQA" else total(1),
        own,
        weights,
        crossing,
        cache,
        spec.max_context,
    )
