"""What one layer keeps per sequence: the states, the layer, and two functions that make the usual layers.

Two shapes of state are enough for every published architecture:

* :class:`PositionState` has one entry per position (keys and values, a latent vector, an indexer's keys),
* :class:`FixedState` has a size that does not depend on the context (convolution and recurrent states).

Nothing here knows bytes per element: see ``formats.py`` for element formats and ``memory/footprint.py`` for the sums.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from attention.errors import check_choice, shown

DTYPE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1}
"""Bytes per element of each dtype that a model's states can have."""

MAX_SIZE = 2**40
"""The largest size accepted. No real size comes near it; the bound keeps arithmetic and drawing finite."""
MAX_HEADS = 2**16
"""Most query heads of a layer; published layers have at most 256."""


class Kind(StrEnum):
    """How a layer remembers the past. One word per layer, as shown to the reader."""

    FULL = "full"
    SLIDING = "sliding"
    CHUNKED = "chunked"
    LATENT = "latent"
    COMPRESSED = "compressed"
    SHARED = "shared"
    RECURRENT = "recurrent"
    CROSS = "cross"
    NONE = "none"


class Role(StrEnum):
    """What a state holds."""

    KEY_VALUE = "key/value"
    LATENT = "latent"
    INDEXER = "indexer keys"
    COMPRESSED = "compressed key/value"
    CROSS = "cross-attention key/value"
    CONVOLUTION = "convolution state"
    RECURRENT = "recurrent state"
    BUFFER = "buffer"


def check_size(name: str, value: Any, minimum: int = 1, maximum: int = MAX_SIZE) -> int:
    """Return `value` if it is a whole number in [minimum, maximum].

    Raises:
        ValueError: `value` is not such a number; the message names the field, the value and what is accepted.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, got {shown(value)}")
    if not minimum <= value <= maximum:
        raise ValueError(f"{name} must be between {minimum:,} and {maximum:,}, got {shown(value)}")
    return value


def check_divides(n_heads: int, n_kv_heads: int) -> int:
    """Return `n_kv_heads` if it divides `n_heads`, so that each K/V head serves equally many query heads.

    Raises:
        ValueError: it does not divide; the message names both numbers.
    """
    if n_heads % n_kv_heads:
        raise ValueError(f"n_kv_heads must divide n_heads = {n_heads}, got {n_kv_heads}")
    return n_kv_heads


@dataclass(frozen=True, slots=True)
class PositionState:
    """A state with one entry per position held.

    Elements of one sequence at context S: ``n_kv_heads * (k_head_dim + v_head_dim) * positions(S)``.

    Attributes:
        role: what the state holds.
        n_kv_heads: K/V heads (1 for a latent vector, which all query heads read).
        k_head_dim: elements of a head's key, or of the latent vector.
        v_head_dim: elements of a head's value (0 if keys serve as values; the RoPE part for a latent).
        window: the most entries that are held; None holds all.
        stride: one entry per `stride` tokens (DeepSeek-V4's compression; 1 elsewhere).
        dtype: fixed element dtype, or None to follow the chosen cache format.
        reads: the most entries that a step reads, because an indexer picks them; None reads all. The number of entries
            held does not depend on it.
    """

    role: Role
    n_kv_heads: int
    k_head_dim: int
    v_head_dim: int
    window: int | None = None
    stride: int = 1
    dtype: str | None = None
    # left out of the repr: recorded comparisons are found by the repr of the layers, and `reads` changes no size
    reads: int | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_size("n_kv_heads", self.n_kv_heads)
        check_size("k_head_dim", self.k_head_dim)
        check_size("v_head_dim", self.v_head_dim, minimum=0)
        if self.window is not None:
            check_size("window", self.window)
        check_size("stride", self.stride)
        if self.reads is not None:
            check_size("reads", self.reads)
        if self.dtype is not None:
            check_choice("dtype", self.dtype, DTYPE_BYTES)

    @property
    def elements_per_position(self) -> int:
        """Elements of one entry, all heads together."""
        return self.n_kv_heads * (self.k_head_dim + self.v_head_dim)

    def positions(self, context: int) -> int:
        """Entries held when `context` tokens have been seen."""
        held = context // self.stride
        return held if self.window is None else min(held, self.window)


@dataclass(frozen=True, slots=True)
class FixedState:
    """A state whose size does not depend on the context.

    Attributes:
        role: what the state holds.
        elements: its size for one sequence.
        dtype: the dtype in which the model's own code keeps it, or None for the model's dtype.
        n_heads: heads into which tensor parallelism divides it (1: it does not divide).
    """

    role: Role
    elements: int
    dtype: str | None = None
    n_heads: int = 1

    def __post_init__(self) -> None:
        check_size("elements", self.elements)
        check_size("n_heads", self.n_heads)
        if self.dtype is not None:
            check_choice("dtype", self.dtype, DTYPE_BYTES)


State = PositionState | FixedState


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer: its kind, its query heads, and the states it keeps.

    Attributes:
        kind: how the layer remembers the past.
        states: what it keeps per sequence; empty for a shared layer and for a layer that remembers nothing.
        n_heads: query heads (0 in a layer without attention).
        k_head_dim: elements of a query/key head; v_head_dim: elements of a value head. For a latent layer these are the
            sizes after expansion (qk_nope_head_dim + qk_rope_head_dim, and v_head_dim).
        shares: index of the layer whose cache this layer reads, for kind "shared".

    Raises:
        ValueError: a size out of range, states that do not fit the kind, or K/V heads that do not divide n_heads.
    """

    kind: Kind
    states: tuple[State, ...] = ()
    n_heads: int = 0
    k_head_dim: int = 0
    v_head_dim: int = 0
    shares: int | None = None

    def __post_init__(self) -> None:
        check_size("n_heads", self.n_heads, minimum=0, maximum=MAX_HEADS)
        check_size("k_head_dim", self.k_head_dim, minimum=0)
        check_size("v_head_dim", self.v_head_dim, minimum=0)
        if self.kind in (Kind.SHARED, Kind.NONE) and self.states:
            raise ValueError(f"a layer of kind {self.kind} keeps no state of its own, got {self.states!r}")
        if self.kind not in (Kind.SHARED, Kind.NONE) and not self.states:
            raise ValueError(f"a layer of kind {self.kind} must say what it keeps")
        if (self.shares is not None) != (self.kind is Kind.SHARED):
            raise ValueError(f"shares belongs to layers of kind shared, got {self.shares!r} in kind {self.kind}")
        for state in self.states:
            if isinstance(state, PositionState) and state.role is Role.KEY_VALUE:
                check_divides(self.n_heads, state.n_kv_heads)

    @property
    def key_value(self) -> PositionState | None:
        """The state that attention reads at every step; None if the layer has no attention or keeps no such state."""
        for state in self.states:
            if isinstance(state, PositionState) and state.role in (
                Role.KEY_VALUE,
                Role.LATENT,
                Role.COMPRESSED,
            ):
                return state
        return None

    @property
    def n_kv_heads(self) -> int:
        """K/V heads that the layer caches; 0 for a layer that caches none of its own."""
        state = self.key_value
        return state.n_kv_heads if state else 0

    @property
    def group_size(self) -> int:
        """Query heads per K/V head; 0 where there is no attention cache."""
        return self.n_heads // self.n_kv_heads if self.n_kv_heads else 0

    @property
    def as_read(self) -> Layer:
        """A layer that holds only the entries that a step reads. It equals this layer unless an indexer picks some."""
        return replace(self, states=tuple(_as_read(state) for state in self.states))


def _as_read(state: State) -> State:
    if not isinstance(state, PositionState) or state.reads is None:
        return state
    return replace(state, window=min(state.reads, state.window or state.reads), reads=None)


def attention_layer(
    n_heads: int,
    n_kv_heads: int,
    head_dim: int,
    window: int | None = None,
    *,
    v_head_dim: int | None = None,
    chunked: bool = False,
) -> Layer:
    """A layer of ordinary attention: full, or over the last `window` positions (chunks of `window` if `chunked`).

    Raises:
        ValueError: a size out of range, or n_kv_heads does not divide n_heads.
    """
    check_size("n_heads", n_heads)
    check_size("head_dim", head_dim)
    v_dim = head_dim if v_head_dim is None else v_head_dim
    state = PositionState(Role.KEY_VALUE, n_kv_heads, head_dim, v_dim, window)
    kind = Kind.FULL if window is None else Kind.CHUNKED if chunked else Kind.SLIDING
    return Layer(kind, (state,), n_heads, head_dim, v_dim)


def latent_layer(
    n_heads: int,
    kv_lora_rank: int,
    qk_rope_head_dim: int,
    qk_nope_head_dim: int,
    v_head_dim: int,
    index_head_dim: int | None = None,
    reads: int | None = None,
) -> Layer:
    """A layer of multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1).

    Args:
        index_head_dim: size of an indexer's key (DeepSeek-V3.2); None: the layer keeps no indexer keys.
        reads: latent vectors that an indexer picks for a step; None: a step reads all.

    Raises:
        ValueError: a size out of range.
    """
    states: list[State] = [PositionState(Role.LATENT, 1, kv_lora_rank, qk_rope_head_dim, reads=reads)]
    if index_head_dim is not None:
        states.append(PositionState(Role.INDEXER, 1, index_head_dim, 0))
    return Layer(Kind.LATENT, tuple(states), n_heads, qk_nope_head_dim + qk_rope_head_dim, v_head_dim)
