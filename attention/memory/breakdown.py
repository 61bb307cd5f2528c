"""The terms whose sum is the size of a cache.

``footprint.py`` gives totals. This module keeps the factors apart, so that a page can print the formula with its
numbers. Every sum here equals ``footprint.cache_bytes``, exact to the byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from attention import formats
from attention.formats import CacheFormat, cache_format
from attention.memory.footprint import layer_bytes
from attention.memory.load import Load
from attention.memory.terms import state_counts
from attention.spec import DTYPE_BYTES, Kind, Layer, ModelSpec, PositionState, Role, State


@dataclass(frozen=True, slots=True)
class Term:
    """One product of the formula: equal states of equal layers.

    The product is ``n_layers * positions * n_kv_heads * (k_head_dim + v_head_dim) * bits_per_element / 8 * batch`` for
    a state with positions, and ``n_layers * elements * bits_per_element / 8 * batch`` for a fixed state. Formats that
    store whole groups round up each row, so the exact figure is `total_bytes`.

    Attributes:
        n_layers: layers that keep this state.
        positions: entries held per sequence; None for a state of fixed size.
        window, stride: the numbers from which `positions` follows, for the reader.
        elements: elements of one entry (or of the whole fixed state) in one layer.
        entry_bytes: bytes of one entry (or of the whole fixed state) in one layer.
        scale_bytes: bytes of the calibrated scales of all these layers for one sequence; `total_bytes` includes them.
        total_bytes: bytes of all these layers for the whole batch.
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
        """Bits per element, with its part of the entry's scales."""
        return 8 * self.entry_bytes / self.elements


def terms(spec: ModelSpec, load: Load, encoder_context: int | None = None, most: int | None = None) -> tuple[Term, ...]:
    """The terms in order of first appearance. Their `total_bytes` add up to ``cache_bytes(...).state_bytes``.

    Args:
        encoder_context: source tokens of an encoder-decoder model; None: as many as the load's context.
        most: the number of terms to return from the start; None returns all.

    Raises:
        ValueError: recurrent states of unknown dtype.
    """
    fmt = cache_format(load.kv_dtype)
    encoder = load.context if encoder_context is None else encoder_context
    counts = islice(state_counts(spec).items(), most)
    return tuple(_term(kind, state, n, load, encoder, fmt, spec) for (kind, state), n in counts)


def _term(
    kind: Kind,
    state: State,
    n_layers: int,
    load: Load,
    encoder_context: int,
    fmt: CacheFormat,
    spec: ModelSpec,
) -> Term:
    # a layer with this state alone, so that the arithmetic is that of `layer_bytes`
    alone = Layer(kind, (state,), n_heads=state.n_kv_heads if isinstance(state, PositionState) else 0)
    context, batch = load.context, load.batch
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


def weight_bytes(n_parameters: int | None, weight_dtype: str = "bf16") -> int | None:
    """Bytes of the weights in a dtype of ``formats.WEIGHT_BITS``; None where the number of parameters is not known.

    Raises:
        ValueError: unknown dtype.
    """
    return None if n_parameters is None else formats.weight_bytes(n_parameters, weight_dtype)
