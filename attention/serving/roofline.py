"""The floor of a decode step: the bytes it must move, the operations it must do, and which of the two takes longer.

This module counts bytes and operations; ``floor.py`` makes the time from them. A floor is a lower bound: interconnect,
launch times, sampling and everything else that is not counted only add to it. The counts are:

* the fewest weights that a step can read, once (``parameters.py``: a token's row of each table, and the experts that
  one token chooses);
* the states, once per sequence;
* two operations per multiply-add.

The experts that a batch of several tokens reads are only an expectation, so they are kept apart from the bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from attention.catalog.published import Accelerator
from attention.errors import check_choice
from attention.floor import Floor, floor
from attention.formats import WEIGHT_BITS, CacheFormat, cache_format, weight_bytes
from attention.memory.allocation import allocate
from attention.memory.footprint import (
    cache_of,
    crossover,
)
from attention.memory.load import Load, check_batch, check_context
from attention.memory.terms import (
    Bend,
    fixed_state_bytes,
    remembered,
    state_counts,
)
from attention.parameters import STATED, Parameters
from attention.spec import DTYPE_BYTES, FixedState, Layer, ModelSpec, PositionState, Role, check_divides, check_size


class DecodeFloor(NamedTuple):
    """The floor of one step that adds a token to each of `batch` sequences.

    Attributes:
        floor: the bound, for one device.
        weight_bytes, cache_bytes: bytes that one device reads; written_bytes: bytes of recurrent states that it writes
            back.
        weight_flops, attention_flops: the two parts of the operations that one device computes.
        notes: what the bound leaves out for this model.
        expected: the same time with the experts that a batch reads on average if all experts are equally likely; not a
            bound. None without experts or for a batch of one.
        expected_weight_bytes: the bytes of weights in `expected`.
    """

    floor: Floor
    weight_bytes: int
    cache_bytes: int
    written_bytes: int
    weight_flops: int
    attention_flops: int
    batch: int
    notes: tuple[str, ...] = ()
    expected: Floor | None = None
    expected_weight_bytes: int | None = None

    @property
    def tokens_per_s(self) -> float:
        """Most tokens per second, all sequences together."""
        return self.batch / self.floor.time_s

    @property
    def sequence_tokens_per_s(self) -> float:
        """Most tokens per second of each sequence."""
        return 1 / self.floor.time_s


def attention_floor(
    n_heads: int,
    n_kv_heads: int,
    head_dim: int,
    context: int,
    batch: int,
    dtype: str,
    bytes_per_s: float,
    flops_per_s: float | None,
) -> Floor:
    """Floor of one decode step of one full attention layer, which reads q, K and V once and writes the output once.

    Args:
        dtype: dtype of q, K, V and the output.
        bytes_per_s, flops_per_s: the device's peaks; flops_per_s None: not known.

    Raises:
        ValueError: sizes out of range or an unknown dtype.
    """
    check_context(context)
    check_batch(batch)
    for name, value in (("n_heads", n_heads), ("n_kv_heads", n_kv_heads), ("head_dim", head_dim)):
        check_size(name, value)
    check_divides(n_heads, n_kv_heads)
    check_choice("dtype", dtype, DTYPE_BYTES)
    elements = 2 * head_dim * (n_kv_heads * context + n_heads)
    # q·Kᵀ and weights·V: two operations for each of n_heads · context · head_dim, twice
    flops = 4 * n_heads * head_dim * context
    return floor(batch * elements * DTYPE_BYTES[dtype], batch * flops, bytes_per_s, flops_per_s)


def layer_flops(layer: Layer, context: int, encoder_context: int | None = None) -> int:
    """Operations of one layer over its states for one new token of one sequence.

    A latent layer attends in the latent space (DeepSeek-V2, arXiv:2405.04434, section 2.1.2: the projections are
    absorbed). There a key has rank + RoPE elements and a value rank elements. A recurrent state is updated and read,
    which takes four operations per element. Other states of fixed size take two per element.
    """
    total = 0
    for state in layer.states:
        if isinstance(state, FixedState):
            total += 4 * state.elements if state.role is Role.RECURRENT else 2 * state.elements
            continue
        total += 2 * layer.n_heads * _positions(state, context, encoder_context) * _attended(state)
    return total


def step_flops(spec: ModelSpec, context: int, encoder_context: int | None = None) -> int:
    """:func:`layer_flops` of all layers together."""

    def make() -> tuple[int, dict[tuple[bool, int], Bend]]:
        fixed = 0
        rows: dict[tuple[bool, int], list[tuple[int, int | None]]] = {}
        for layer, n in spec.groups:
            for state in layer.states:
                if isinstance(state, FixedState):
                    fixed += n * layer_flops(Layer(layer.kind, (state,)), 0)
                else:
                    weight = n * 2 * layer.n_heads * _attended(state)
                    rows.setdefault((state.role is Role.CROSS, state.stride), []).append((weight, state.window))
        return fixed, {key: Bend(terms) for key, terms in rows.items()}

    fixed, bends = remembered(spec, ("flops",), make)
    encoder = context if encoder_context is None else encoder_context
    return fixed + sum(b.at((encoder if is_cross else context) // stride) for (is_cross, stride), b in bends.items())


def _positions(state: PositionState, context: int, encoder_context: int | None) -> int:
    held = encoder_context if state.role is Role.CROSS and encoder_context is not None else context
    return state.positions(held)


def _attended(state: PositionState) -> int:
    """Multiply-adds of one query head per entry: for the dot product with the key, and for the sum of the values."""
    if state.role is Role.LATENT:
        return 2 * state.k_head_dim + state.v_head_dim
    if state.role in (Role.INDEXER, Role.BUFFER):
        return 0  # an indexer has its own heads, whose number a Layer does not state
    # where one vector serves as key and value (v_head_dim 0), it is used twice
    return state.k_head_dim + (state.v_head_dim or state.k_head_dim)


def decode_floor(
    spec: ModelSpec,
    accelerator: Accelerator,
    context: int,
    batch: int = 1,
    *,
    count: int = 1,
    weight_dtype: str = "bf16",
    kv_dtype: str = "bf16",
    encoder_context: int | None = None,
) -> DecodeFloor:
    """Floor of one decode step of the whole model on `count` accelerators.

    Args:
        context: tokens held by each sequence; batch: number of sequences.
        encoder_context: source tokens of an encoder-decoder model; defaults to `context`.

    Raises:
        ValueError: the number of parameters is not known, or an argument is out of range.
    """
    weights_of = known_parameters(spec, "to estimate a step")
    weights = -(-weight_bytes(weights_of.read, weight_dtype) // count)
    # tokens held, not pages: padding is not read. Recurrent states are read and written back.
    cache = allocate(
        spec.as_read, context, batch, kv_dtype, tp=count, page_tokens=1, encoder_context=encoder_context
    ).bytes_per_rank
    written = batch * _rewritten(spec, cache_format(kv_dtype)) // count
    attention = batch * step_flops(spec.as_read, context, encoder_context) // count
    multiplied = weights_of.read - weights_of.rows
    weight_flops = 2 * multiplied * batch // count
    peak = compute_peak(accelerator.flops_per_s, weight_dtype)

    def bound(read: int) -> Floor:
        return floor(read + cache + written, weight_flops + attention, accelerator.bytes_per_s, peak)

    expected = None
    if weights_of.routed and batch > 1:
        expected = -(-weight_bytes(weights_of.expected_read(batch), weight_dtype) // count)
    return DecodeFloor(
        bound(weights),
        weights,
        cache,
        written,
        weight_flops,
        attention,
        batch,
        _notes(spec, batch, weights_of),
        None if expected is None else bound(expected),
        expected,
    )


def known_parameters(spec: ModelSpec, why: str) -> Parameters:
    """The model's parameters.

    Raises:
        ValueError: their number is not known; the message says why it is needed, with `why`.
    """
    found = spec.parameters
    if found is None:
        raise ValueError(f"n_parameters of {spec.name} is not known: state it {why}")
    return found


def _rewritten(spec: ModelSpec, fmt: CacheFormat) -> int:
    """Bytes of one sequence's states of fixed size, which a step also writes."""

    def make() -> int:
        fixed = ((state, n) for (_, state), n in state_counts(spec).items() if isinstance(state, FixedState))
        return sum(n * fixed_state_bytes(state, spec.model_dtype, fmt) for state, n in fixed)

    return remembered(spec, ("rewritten", fmt.name), make)


def _notes(spec: ModelSpec, batch: int, weights: Parameters) -> tuple[str, ...]:
    notes = []
    if weights.routed and batch > 1:
        group = max(weights.routed, key=lambda g: g.total)
        notes.append(
            f"the bound counts the {group.n_chosen} of {group.n_experts} experts of a layer that one token needs; "
            f"{batch:,} tokens choose about {group.distinct(batch):.0f} different ones if all are as likely"
        )
    elif batch > 1 and spec.n_active_parameters and spec.n_active_parameters < (spec.n_parameters or 0):
        notes.append("a batch of more than one reads more experts than one token's; the bound counts one token's")
    if weights.source == STATED:
        notes.append("the number of parameters is stated, so tables that are only looked up count as read")
    if spec.as_read is not spec:
        notes.append("an indexer picks the entries that are read; its own products are not counted")
    elif remembered(spec, ("indexer",), lambda: any(state.role is Role.INDEXER for _, state in state_counts(spec))):
        notes.append("an indexer picks which entries are read, it is not known how many: counting all is no bound")
    return tuple(notes)


def compute_peak(flops_per_s: Mapping[str, float], weight_dtype: str) -> float | None:
    """Peak of the dtype in which a step computes: the weights' dtype if the device has it, else 16 bit, else fp32.

    Weights of 4 bits are widened before they are multiplied, so the peak for 16 bit applies to them.

    Returns:
        Operations per second; None if `flops_per_s` has none of these dtypes.
    """
    wanted = weight_dtype if weight_dtype in DTYPE_BYTES else "bf16"
    for name in (wanted, "bf16", "fp16", "fp32"):
        if name in flops_per_s:
            return flops_per_s[name]
    return None


def traffic_crossover(spec: ModelSpec, weight_dtype: str, kv_dtype: str, batch: int = 1) -> int | None:
    """Smallest context at which a step reads more bytes of states than of weights, as the bound counts them; None if it
    never does.

    Raises:
        ValueError: the number of parameters is not known.
    """
    size = weight_bytes(known_parameters(spec, "to compare").read, weight_dtype)
    return crossover(spec.as_read, size, kv_dtype, batch)


def ridge(bytes_per_s: float, flops_per_s: float) -> float:
    """Operations per byte at which memory and arithmetic take equally long."""
    return flops_per_s / bytes_per_s


def attainable_flops_per_s(intensity: float, bytes_per_s: float, flops_per_s: float | None) -> float:
    """The roof at an intensity in operations per byte: first the slope of the bandwidth, then the flat peak."""
    slope = intensity * bytes_per_s
    return slope if flops_per_s is None else min(slope, flops_per_s)


def batch_where_compute_binds(accelerator: Accelerator, weight_dtype: str = "bf16") -> int | None:
    """Smallest batch at which multiplying by the weights takes longer than reading them, without the cache; None where
    the device's peak is not known."""
    peak = compute_peak(accelerator.flops_per_s, weight_dtype)
    if peak is None:
        return None
    per_weight = WEIGHT_BITS[weight_dtype] / 8
    return int(ridge(accelerator.bytes_per_s, peak) * per_weight / 2) + 1


def cache_share(spec: ModelSpec, load: Load, weight_dtype: str) -> float:
    """Share of the states in the bytes that a step reads, between 0 and 1. Weights are counted as in the bound.

    Raises:
        ValueError: the number of parameters is not known.
    """
    weights = weight_bytes(known_parameters(spec, "to compare").read, weight_dtype)
    states = cache_of(spec.as_read, load).state_bytes
    return states / (states + weights)
