"""Exact bytes that a model's states need, as integers: for one sequence or a batch, by layer and by kind.

The rule of each state is in ``states.py`` and the size of an element in ``formats.py``; this module adds them up.
``allocation.py`` counts what a serving engine sets aside beyond this.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from attention.formats import CacheFormat, cache_format
from attention.memory import terms
from attention.memory.load import MAX_CONTEXT, Load
from attention.memory.terms import Terms
from attention.spec import Kind, Layer, ModelSpec, check_size


@dataclass(frozen=True, slots=True)
class LayerBytes:
    """Bytes of one layer for one sequence.

    Attributes:
        positions: entries of the state that attention reads (0 without one).
    """

    index: int
    kind: Kind
    n_kv_heads: int
    positions: int
    state_bytes: int


@dataclass(frozen=True, slots=True)
class CacheBytes:
    """Bytes of a model's states under a load.

    Attributes:
        load: the context, batch and format for which they are counted.
        fixed_bytes: bytes of one sequence that do not depend on the context (recurrent and convolution states,
            cross-attention's K and V, calibrated scales).
        bytes_per_token: growth of one sequence's states for one more token at this context.
        sequence_bytes: bytes of one sequence.
        state_bytes: bytes of the whole batch.
        by_kind: bytes of one sequence by kind of layer.
    """

    load: Load
    fixed_bytes: int
    bytes_per_token: int
    sequence_bytes: int
    state_bytes: int
    by_kind: dict[Kind, int]

    @property
    def context(self) -> int:
        return self.load.context

    @property
    def batch(self) -> int:
        return self.load.batch

    @property
    def kv_dtype(self) -> str:
        return self.load.kv_dtype


@lru_cache(maxsize=4096)
def _layer_terms(layer: Layer, model_dtype: str | None, fmt: CacheFormat) -> Terms:
    return terms.terms_of(((state, 1) for state in layer.states), model_dtype, fmt)


def layer_bytes(
    layer: Layer,
    context: int,
    fmt: CacheFormat,
    model_dtype: str | None = None,
    encoder_context: int | None = None,
) -> int:
    """Bytes of one layer's states for one sequence. `encoder_context` defaults to `context`; both are in tokens.

    Raises:
        ValueError: recurrent states of unknown dtype.
    """
    return _layer_terms(layer, model_dtype, fmt).at(context, encoder_context)


def sequence_bytes(
    spec: ModelSpec, context: int, kv_dtype: str | CacheFormat = "bf16", encoder_context: int | None = None
) -> int:
    """Bytes of one sequence's states, fast enough for curves and maps. Context 0 gives the fixed part.

    Raises:
        ValueError: an unknown format, or recurrent states of unknown dtype.
    """
    fmt = kv_dtype if isinstance(kv_dtype, CacheFormat) else cache_format(kv_dtype)
    return terms.total(spec, fmt).at(context, encoder_context)


def cache_bytes(
    spec: ModelSpec, context: int, batch: int = 1, kv_dtype: str = "bf16", encoder_context: int | None = None
) -> CacheBytes:
    """All sums of bytes at one context.

    Args:
        spec: the model.
        context: tokens held, at least 1.
        batch: number of sequences.
        kv_dtype: a name of ``formats.FORMATS``.
        encoder_context: source tokens of an encoder-decoder model; defaults to `context`.

    Raises:
        ValueError: context, batch or kv_dtype out of range, or recurrent states of unknown dtype.
    """
    return cache_of(spec, Load(context, batch, kv_dtype), encoder_context)


def cache_of(spec: ModelSpec, load: Load, encoder_context: int | None = None) -> CacheBytes:
    """:func:`cache_bytes` for a load.

    Raises:
        ValueError: `encoder_context` out of range, or recurrent states of unknown dtype.
    """
    context = load.context
    encoder = context if encoder_context is None else check_size("encoder_context", encoder_context, 1, MAX_CONTEXT)
    fmt = cache_format(load.kv_dtype)
    whole = terms.total(spec, fmt)
    total, fixed, after = (whole.at(held, encoder) for held in (context, 0, context + 1))
    by_kind = {kind: some.at(context, encoder) for kind, some in terms.by_kind(spec, fmt).items()}
    return CacheBytes(load, fixed, after - total, total, total * load.batch, by_kind)


def layers_bytes(
    spec: ModelSpec,
    context: int,
    kv_dtype: str = "bf16",
    encoder_context: int | None = None,
    most: int | None = None,
) -> tuple[LayerBytes, ...]:
    """Bytes of every layer, or of the first `most` layers, for one sequence, in order.

    Raises:
        ValueError: an unknown format, or recurrent states of unknown dtype.
    """
    fmt = cache_format(kv_dtype)
    out = []
    for index, layer in enumerate(spec.layers[:most]):
        state = layer.key_value
        positions = state.positions(context) if state else 0
        size = layer_bytes(layer, context, fmt, spec.model_dtype, encoder_context)
        out.append(LayerBytes(index, layer.kind, layer.n_kv_heads, positions, size))
    return tuple(out)


def context_where(spec: ModelSpec, target_bytes: int, kv_dtype: str = "bf16", batch: int = 1) -> int | None:
    """Largest context at which the states of `batch` sequences need at most `target_bytes`.

    Returns:
        The context in tokens: 0 if the states of one token are too large, None if no context up to MAX_CONTEXT needs
        more than the target.
    """
    whole = terms.total(spec, cache_format(kv_dtype))
    return longest_context(lambda context: batch * whole.at(context), target_bytes)


def crossover(spec: ModelSpec, weights: int | None, kv_dtype: str = "bf16", batch: int = 1) -> int | None:
    """First context at which the states of `batch` sequences together are larger than `weights` bytes.

    Returns:
        The context in tokens; None if the weights are not known, or if the states are never larger up to MAX_CONTEXT
        (a recurrent model).
    """
    last = None if weights is None else context_where(spec, weights, kv_dtype, batch)
    return None if last is None else last + 1


def longest_context(needed: Callable[[int], int], room_bytes: int) -> int | None:
    """Largest context that needs at most `room_bytes`.

    Args:
        needed: bytes at a context; they must not fall as the context grows.

    Returns:
        The context in tokens: 0 if one token needs more, None if no context up to MAX_CONTEXT does.
    """
    held = bisect_right(range(1, MAX_CONTEXT + 1), room_bytes, key=needed)
    return None if held == MAX_CONTEXT else held
