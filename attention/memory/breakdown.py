"""Where a cache's bytes come from: the terms of the sum, the curves, and the point where it outgrows the weights.

``footprint.py`` gives totals; this module keeps the factors apart, so that a page can print the formula with its
numbers put in and draw the parts. Every sum here equals ``footprint.cache_bytes`` to the byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from attention import formats, sharing
from attention.formats import CacheFormat, cache_format
from attention.memory.footprint import (
    check_batch,
    check_context,
    context_where,
    layer_bytes,
    sequence_bytes,
)
from attention.memory.terms import shared_total, state_counts
from attention.spec import DTYPE_BYTES, Kind, Layer, ModelSpec, PositionState, Role, State


@dataclass(frozen=True, slots=True)
class Term:
    """One product of the formula: equal states of equal layers.

    ``n_layers * positions * n_kv_heads * (k_head_dim + v_head_dim) * bits_per_element / 8 * batch`` for a state
    with positions, ``n_layers * elements * bits_per_element / 8 * batch`` for a fixed one. With formats that
    store whole groups the product is rounded up row by row, so `total_bytes` is the figure that counts.

    Attributes:
        positions: entries held per sequence; None for a state of fixed size.
        window, stride: the rule that gave `positions`, for the reader.
        elements: of one entry (or of the whole fixed state), one layer.
        entry_bytes: of one entry (or of the whole fixed state), one layer.
        scale_bytes: calibrated scales of all these layers, one sequence, included in `total_bytes`.
        total_bytes: all layers, the whole batch.
    """

    kind: Kind
    role: Role
    n_layers: int
    positions: int | None
    window: int | None
    stride: int
    n_kv_heads: int
    k_head_dim: int
    v_head_dim: int
    elements: int
    entry_bytes: int
    scale_bytes: int
    batch: int
    total_bytes: int

    @property
    def bits_per_element(self) -> float:
        """Effective bits, scales of the entry included."""
        return 8 * self.entry_bytes / self.elements


def terms(
    spec: ModelSpec,
    context: int,
    batch: int = 1,
    kv_dtype: str = "bf16",
    encoder_context: int | None = None,
    most: int | None = None,
) -> tuple[Term, ...]:
    """The terms whose `total_bytes` add up to ``cache_bytes(...).state_bytes``, in order of first appearance; the first
    `most` of them if given.

    Raises:
        ValueError: context, batch or kv_dtype out of range, or recurrent states of unknown dtype.
    """
    check_context(context)
    check_batch(batch)
    fmt = cache_format(kv_dtype)
    encoder = context if encoder_context is None else encoder_context
    counts = islice(state_counts(spec).items(), most)
    return tuple(_term(kind, state, n, context, encoder, batch, fmt, spec) for (kind, state), n in counts)


def _term(
    kind: Kind,
    state: State,
    n_layers: int,
    context: int,
    encoder_context: int,
    batch: int,
    fmt: CacheFormat,
    spec: ModelSpec,
) -> Term:
    # one layer with this state alone: the same arithmetic as everywhere else, nothing computed twice
    alone = Layer(kind, (state,), n_heads=state.n_kv_heads if isinstance(state, PositionState) else 0)
    whole = layer_bytes(alone, context, fmt, spec.model_dtype, encoder_context)
    if not isinstance(state, PositionState):
        return Term(
            kind, state.role, n_layers, None, None, 1, state.n_heads, 0, 0,
            state.elements, whole, 0, batch, n_layers * whole * batch,
        )  # fmt: skip
    is_cross = state.role is Role.CROSS
    positions = encoder_context if is_cross else state.positions(context)
    scales = 0 if state.dtype else fmt.fixed_bytes(state)
    entry = (
        state.elements_per_position * DTYPE_BYTES[state.dtype]
        if state.dtype
        else fmt.row_bytes(state.n_kv_heads * state.k_head_dim) + fmt.row_bytes(state.n_kv_heads * state.v_head_dim)
    )
    assert whole == entry * positions + scales, "a term must equal the layer's own sum"
    return Term(
        kind, state.role, n_layers, positions, state.window, state.stride, state.n_kv_heads,
        state.k_head_dim, state.v_head_dim, state.elements_per_position, entry, scales * n_layers, batch,
        n_layers * whole * batch,
    )  # fmt: skip


class Variant(NamedTuple):
    """The same model with another number of K/V heads."""

    label: str
    n_kv_heads: int
    state_bytes: int
    is_model: bool
    is_latent: bool = False


def variants(spec: ModelSpec, context: int, batch: int = 1, kv_dtype: str = "bf16") -> tuple[Variant, ...]:
    """MHA, some GQA steps and MQA of the same model, the model itself in its place, largest sharing last.

    A latent (MLA) model stands beside the ordinary attention its query heads would need. A model without
    attention cache, or whose layers differ in their query heads, has only the counterfactuals that exist.
    """
    fmt = cache_format(kv_dtype)
    own = batch * sequence_bytes(spec, context, fmt)
    n_heads, n_kv = spec.n_heads, spec.n_kv_heads
    latent = any(layer.kind is Kind.LATENT for layer, _ in spec.groups)
    if not n_heads:
        return (Variant(spec.name, 0, own, True),)
    own_name = "MLA" if latent else sharing.name(n_heads, n_kv)
    rows = [] if latent else [Variant(own_name, n_kv, own, True)]
    for n in _steps(n_heads):
        if latent or n != n_kv:
            bytes_ = _counterfactual(spec, n, context, fmt)
            if bytes_ is not None:
                rows.append(Variant(sharing.name(n_heads, n), n, batch * bytes_, False))
    rows.sort(key=lambda row: -row.n_kv_heads)
    if latent:
        rows.append(Variant(own_name, n_kv, own, True, True))
    return tuple(rows)


def _steps(n_heads: int) -> tuple[int, ...]:
    """All of a few divisors; of many, those nearest to powers of four, ends included."""
    every = sharing.divisors(n_heads)
    if len(every) <= 5:
        return every
    wanted = {min(every, key=lambda d: (abs(d - p), d)) for p in (1, 4, 8, n_heads // 4 or 1, n_heads)}
    return tuple(sorted(wanted))


def _counterfactual(spec: ModelSpec, n: int, context: int, fmt: CacheFormat) -> int | None:
    try:
        return shared_total(spec, None if n == spec.n_heads else n, fmt).at(context)
    except ValueError:
        return None  # some layer's query heads cannot be shared so: the counterfactual does not exist


def weight_bytes(n_parameters: int | None, weight_dtype: str = "bf16") -> int | None:
    """Bytes of the weights in a dtype of ``formats.WEIGHT_BITS``; None where the parameter count is not known.

    Raises:
        ValueError: unknown dtype.
    """
    return None if n_parameters is None else formats.weight_bytes(n_parameters, weight_dtype)


def outgrows_weights_at(spec: ModelSpec, weights: int | None, kv_dtype: str = "bf16", batch: int = 1) -> int | None:
    """First context at which `batch` caches together are larger than the weights.

    None if the weights are not known or no context up to ``footprint.MAX_CONTEXT`` gets there (a recurrent model).
    """
    if weights is None:
        return None
    last = context_where(spec, weights, kv_dtype, batch)
    return None if last is None else last + 1
