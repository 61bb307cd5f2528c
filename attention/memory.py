"""Exact bytes that a model's states need: integers, one sequence or a batch, by layer and by kind.

The rule of each state is in ``spec.py``, the size of an element in ``formats.py``; here they are added up.
What a serving engine sets aside beyond this is in ``allocation.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from attention.formats import CacheFormat, cache_format
from attention.spec import DTYPE_BYTES, FixedState, Kind, Layer, ModelSpec, PositionState, Role, check_size

MAX_CONTEXT = 2**32
"""Longest context accepted, in tokens."""
MAX_BATCH = 2**20
"""Most sequences accepted."""


@dataclass(frozen=True, slots=True)
class LayerBytes:
    """Bytes of one layer, one sequence."""

    index: int
    kind: Kind
    n_kv_heads: int
    positions: int
    state_bytes: int


@dataclass(frozen=True, slots=True)
class CacheBytes:
    """Bytes of a model's states at a context.

    Attributes:
        fixed_bytes: one sequence's part that does not depend on the context (recurrent and convolution
            states, cross-attention's K and V, calibrated scales).
        bytes_per_token: growth of one sequence's state for one more token at this context.
        sequence_bytes: one sequence.
        state_bytes: the whole batch.
        by_kind: one sequence's bytes by kind of layer.
    """

    context: int
    batch: int
    kv_dtype: str
    fixed_bytes: int
    bytes_per_token: int
    sequence_bytes: int
    state_bytes: int
    by_kind: dict[Kind, int]


def check_context(context: int) -> int:
    return check_size("context", context, maximum=MAX_CONTEXT)


def check_batch(batch: int) -> int:
    return check_size("batch", batch, maximum=MAX_BATCH)


def position_row_bytes(state: PositionState, fmt: CacheFormat) -> int:
    """Bytes of one position of `state`: K and V rows of all its heads."""
    if state.dtype is not None:
        return state.elements_per_position * DTYPE_BYTES[state.dtype]
    return fmt.row_bytes(state.n_kv_heads * state.k_head_dim) + fmt.row_bytes(state.n_kv_heads * state.v_head_dim)


def fixed_state_bytes(state: FixedState, model_dtype: str | None, fmt: CacheFormat) -> int:
    """Bytes of a state of constant size: in its own dtype, else the model's.

    Raises:
        ValueError: neither is stated, and the cache format does not tell.
    """
    dtype = state.dtype or model_dtype
    if dtype is None:
        # a 16- or 32-bit cache format is the dtype the model runs in; a quantised one says nothing about it
        if fmt.name not in ("bf16", "fp16", "fp32"):
            raise ValueError(
                "torch_dtype is not stated, so the size of the convolution and recurrent states is not known; "
                "state torch_dtype or choose kv_dtype bf16, fp16 or fp32"
            )
        dtype = fmt.name
    return state.elements * DTYPE_BYTES[dtype]


@lru_cache(maxsize=4096)
def _layer_terms(
    layer: Layer, model_dtype: str | None, fmt: CacheFormat
) -> tuple[int, tuple[tuple[int, int, int | None], ...], int]:
    """(fixed bytes, ((row bytes, stride, window), …) of decoder states, row bytes of cross-attention)."""
    fixed = cross = 0
    rows = []
    for state in layer.states:
        if isinstance(state, FixedState):
            fixed += fixed_state_bytes(state, model_dtype, fmt)
            continue
        row = position_row_bytes(state, fmt)
        fixed += fmt.fixed_bytes(state) if state.dtype is None else 0
        if state.role is Role.CROSS:
            cross += row
        else:
            rows.append((row, state.stride, state.window))
    return fixed, tuple(rows), cross


def layer_bytes(
    layer: Layer,
    context: int,
    fmt: CacheFormat,
    model_dtype: str | None = None,
    encoder_context: int | None = None,
) -> int:
    """Bytes of one layer's states, one sequence. `encoder_context` defaults to `context`."""
    fixed, rows, cross = _layer_terms(layer, model_dtype, fmt)
    total = fixed + cross * (context if encoder_context is None else encoder_context)
    for row, stride, window in rows:
        held = context // stride
        total += row * (held if window is None or held < window else window)
    return total


def sequence_bytes(
    spec: ModelSpec, context: int, kv_dtype: str | CacheFormat = "bf16", encoder_context: int | None = None
) -> int:
    """Bytes of one sequence's states; the quick path for curves and maps. Context 0 gives the fixed part.

    Raises:
        ValueError: an unknown format, or recurrent states of unknown dtype.
    """
    fmt = kv_dtype if isinstance(kv_dtype, CacheFormat) else cache_format(kv_dtype)
    dtype = spec.model_dtype
    return sum(n * layer_bytes(layer, context, fmt, dtype, encoder_context) for layer, n in spec.groups)


def cache_bytes(
    spec: ModelSpec, context: int, batch: int = 1, kv_dtype: str = "bf16", encoder_context: int | None = None
) -> CacheBytes:
    """All sums at one context.

    Args:
        spec: the model.
        context: tokens held, at least 1.
        batch: sequences.
        kv_dtype: a name of ``formats.FORMATS``.
        encoder_context: source tokens of an encoder-decoder model; defaults to `context`.

    Raises:
        ValueError: context, batch or kv_dtype out of range, or recurrent states of unknown dtype.
    """
    check_context(context)
    check_batch(batch)
    encoder = context if encoder_context is None else check_size("encoder_context", encoder_context, 1, MAX_CONTEXT)
    fmt = cache_format(kv_dtype)
    by_kind: dict[Kind, int] = {}
    total = fixed = after = 0
    for layer, n in spec.groups:
        here = n * layer_bytes(layer, context, fmt, spec.model_dtype, encoder)
        total += here
        fixed += n * layer_bytes(layer, 0, fmt, spec.model_dtype, encoder)
        after += n * layer_bytes(layer, context + 1, fmt, spec.model_dtype, encoder)
        by_kind[layer.kind] = by_kind.get(layer.kind, 0) + here
    return CacheBytes(context, batch, kv_dtype, fixed, after - total, total, total * batch, by_kind)


def layers_bytes(
    spec: ModelSpec, context: int, kv_dtype: str = "bf16", encoder_context: int | None = None
) -> tuple[LayerBytes, ...]:
    """Bytes of every layer, one sequence, in order."""
    fmt = cache_format(kv_dtype)
    out = []
    for index, layer in enumerate(spec.layers):
        state = layer.key_value
        positions = state.positions(context) if state else 0
        size = layer_bytes(layer, context, fmt, spec.model_dtype, encoder_context)
        out.append(LayerBytes(index, layer.kind, layer.n_kv_heads, positions, size))
    return tuple(out)


def with_n_kv_heads(spec: ModelSpec, n_kv_heads: int | None) -> ModelSpec:
    """The counterfactual model whose attention layers all have `n_kv_heads` K/V heads; None means MHA.

    Windows, shared layers and recurrent layers stay as they are. A latent layer becomes the ordinary
    attention its query heads would need: full K and V of its expanded head sizes. DeepSeek-V4's compressed
    layers keep their compression.

    Raises:
        ValueError: n_kv_heads does not divide the query heads of some attention layer.
    """
    return replace(
        spec,
        name=f"{spec.name} as {'MHA' if n_kv_heads is None else 'MQA' if n_kv_heads == 1 else f'GQA-{n_kv_heads}'}",
        layers=tuple(_layer_with(layer, n_kv_heads) for layer in spec.layers),
    )


@lru_cache(maxsize=4096)
def _layer_with(layer: Layer, n_kv_heads: int | None) -> Layer:
    n = layer.n_heads if n_kv_heads is None else n_kv_heads
    if layer.n_kv_heads and layer.n_heads % n:
        raise ValueError(f"n_kv_heads must divide n_heads = {layer.n_heads}, got {n}")
    if layer.kind is Kind.LATENT:
        state = PositionState(Role.KEY_VALUE, n, layer.k_head_dim, layer.v_head_dim)
        return Layer(Kind.FULL, (state,), layer.n_heads, layer.k_head_dim, layer.v_head_dim)
    states = tuple(
        replace(s, n_kv_heads=n) if isinstance(s, PositionState) and s.role in _COUNTED_PER_HEAD else s
        for s in layer.states
    )
    return replace(layer, states=states)


_COUNTED_PER_HEAD = (Role.KEY_VALUE, Role.COMPRESSED, Role.CROSS)


def context_where(spec: ModelSpec, target_bytes: int, kv_dtype: str = "bf16", batch: int = 1) -> int | None:
    """Largest context at which `batch` sequences' states need at most `target_bytes`.

    Returns 0 if even one token's state is too large, None if no context up to MAX_CONTEXT reaches the target.
    """
    fmt = cache_format(kv_dtype)

    def fits(context: int) -> bool:
        return batch * sequence_bytes(spec, context, fmt) <= target_bytes

    if fits(MAX_CONTEXT):
        return None
    low, high = 0, MAX_CONTEXT
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def divisors(n: int) -> tuple[int, ...]:
    """Divisors of n in rising order: the numbers of K/V heads that n query heads can share."""
    return tuple(d for d in range(1, n + 1) if n % d == 0)


def curve(spec: ModelSpec, contexts: Iterable[int], kv_dtype: str = "bf16", batch: int = 1) -> list[int]:
    """Bytes of `batch` sequences at each context."""
    fmt = cache_format(kv_dtype)
    return [batch * sequence_bytes(spec, context, fmt) for context in contexts]
