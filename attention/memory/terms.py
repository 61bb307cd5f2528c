"""A spec's arithmetic, summed once into its few distinct terms.

A state with positions needs ``row · min(x, window)`` bytes, where x is the context over the stride. However many layers
a model has, their sum over one stride is a line with a bend at each window: with the windows in order, and sums of the
rows before and after each, it costs one search at any context. Every sum is an exact integer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from math import gcd
from typing import NamedTuple, TypeVar

from attention.formats import CacheFormat
from attention.sharing import PER_HEAD, state_with, states_with
from attention.spec import DTYPE_BYTES, FixedState, Kind, ModelSpec, PositionState, Role, State, check_divides

T = TypeVar("T")
_REMEMBERED = 512
"""Results kept with one model; beyond that they are computed anew."""


def remembered(spec: ModelSpec, key: tuple[object, ...], make: Callable[[], T]) -> T:
    """``make()``, kept with the spec: it may depend on the layers, the model's dtype and `key` alone."""
    known = spec.memo
    if key not in known:
        if len(known) >= _REMEMBERED:
            known.clear()
        known[key] = make()
    return known[key]


class Bend:
    """The sum of ``weight · min(x, cap)`` over any number of terms, each at the cost of one search."""

    __slots__ = ("_after", "_before", "_caps")

    def __init__(self, terms: Iterable[tuple[int, int | None]]) -> None:
        """Terms as (weight, cap); a cap of None never binds."""
        weights: Counter[int | None] = Counter()
        for weight, cap in terms:
            weights[cap] += weight
        growing = sum(weights.values())
        held = 0
        self._caps = sorted(cap for cap in weights if cap is not None)
        self._before, self._after = [held], [growing]
        for cap in self._caps:
            held += weights[cap] * cap
            growing -= weights[cap]
            self._before.append(held)
            self._after.append(growing)

    def at(self, x: int) -> int:
        i = bisect_right(self._caps, x)
        return self._before[i] + x * self._after[i]


class Terms(NamedTuple):
    """The bytes of some layers, one sequence.

    Attributes:
        fixed: what does not depend on the context. cross: for each position of the source.
        bends: (weight, stride, sum over the decoder states that keep one entry per stride).
    """

    fixed: int
    cross: int
    bends: tuple[tuple[int, int, Bend], ...]

    def at(self, context: int, encoder_context: int | None = None) -> int:
        """Bytes at a context; `encoder_context` defaults to it."""
        total = self.fixed + self.cross * (context if encoder_context is None else encoder_context)
        for weight, stride, bend in self.bends:
            total += weight * bend.at(context // stride)
        return total


def row_bytes(state: PositionState, fmt: CacheFormat) -> int:
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


def terms_of(states: Iterable[tuple[State, int]], model_dtype: str | None, fmt: CacheFormat) -> Terms:
    """The terms of some states, each with how many layers keep it."""
    fixed = cross = 0
    rows: dict[int, list[tuple[int, int | None]]] = defaultdict(list)
    for state, n in states:
        if isinstance(state, FixedState):
            fixed += n * fixed_state_bytes(state, model_dtype, fmt)
            continue
        fixed += n * fmt.fixed_bytes(state) if state.dtype is None else 0
        if state.role is Role.CROSS:
            cross += n * row_bytes(state, fmt)
        else:
            rows[state.stride].append((n * row_bytes(state, fmt), state.window))
    return Terms(fixed, cross, tuple((1, stride, Bend(terms)) for stride, terms in rows.items()))


def state_counts(spec: ModelSpec) -> dict[tuple[Kind, State], int]:
    """Distinct states by kind of layer, with how many layers keep each, in order of first appearance."""

    def make() -> dict[tuple[Kind, State], int]:
        counts: Counter[tuple[Kind, State]] = Counter()
        for layer, n in spec.groups:
            for state in layer.states:
                counts[layer.kind, state] += n
        return dict(counts)

    return remembered(spec, ("states",), make)


def total(spec: ModelSpec, fmt: CacheFormat) -> Terms:
    """The terms of the whole model."""

    def make() -> Terms:
        return terms_of(((state, n) for (_, state), n in state_counts(spec).items()), spec.model_dtype, fmt)

    return remembered(spec, ("total", fmt.name), make)


def by_kind(spec: ModelSpec, fmt: CacheFormat) -> dict[Kind, Terms]:
    """The terms of each kind of layer, in order of first appearance; a kind that keeps nothing has none but zeros."""

    def make() -> dict[Kind, Terms]:
        states: dict[Kind, list[tuple[State, int]]] = {layer.kind: [] for layer, _ in spec.groups}
        for (kind, state), n in state_counts(spec).items():
            states[kind].append((state, n))
        return {kind: terms_of(some, spec.model_dtype, fmt) for kind, some in states.items()}

    return remembered(spec, ("by kind", fmt.name), make)


def head_step(spec: ModelSpec) -> int:
    """The greatest number of K/V heads that divides the query heads of every layer with a cache (0: there is none)."""
    return remembered(
        spec, ("head step",), lambda: gcd(*(layer.n_heads for layer, _ in spec.groups if layer.n_kv_heads))
    )


def shared_total(spec: ModelSpec, n_kv_heads: int | None, fmt: CacheFormat) -> Terms:
    """The terms of the counterfactual model with so many K/V heads in every attention layer (None: one per query head).

    See ``sharing.with_n_kv_heads``; here no layer is made, and each further number of heads costs next to nothing.

    Raises:
        ValueError: n_kv_heads does not divide the query heads of some attention layer.
    """

    def as_mha() -> Terms:
        states = ((state, n) for layer, n in spec.groups for state in states_with(layer, None))
        return terms_of(states, spec.model_dtype, fmt)

    if n_kv_heads is None:
        return remembered(spec, ("as MHA", fmt.name), as_mha)
    check_divides(head_step(spec), n_kv_heads)
    fixed = cross = 0
    bends = []
    for state, n, bend in _one_head(spec):
        if isinstance(state, FixedState):
            fixed += n * fixed_state_bytes(state, spec.model_dtype, fmt)
            continue
        held = state_with(state, n_kv_heads) if state.role in PER_HEAD else state
        fixed += n * fmt.fixed_bytes(held) if held.dtype is None else 0
        if held.role is Role.CROSS:
            cross += n * row_bytes(held, fmt)
        else:
            bends.append((row_bytes(held, fmt), held.stride, bend))
    return Terms(fixed, cross, tuple(bends))


def shared_bytes(spec: ModelSpec, n_kv_heads: int | None, context: int, fmt: CacheFormat) -> int:
    """Bytes of one sequence of that model."""
    return shared_total(spec, n_kv_heads, fmt).at(context)


def _one_head(spec: ModelSpec) -> tuple[tuple[State, int, Bend], ...]:
    """States of the model as MQA that differ in more than their window, each with how many layers keep it and the sum
    of the positions these hold."""

    def make() -> tuple[tuple[State, int, Bend], ...]:
        windows: dict[State, Counter[int | None]] = defaultdict(Counter)
        for layer, n in spec.groups:
            for state in states_with(layer, 1):
                window = state.window if isinstance(state, PositionState) else None
                windows[_endless(state)][window] += n
        return tuple(
            (state, sum(counts.values()), Bend((n, window) for window, n in counts.items()))
            for state, counts in windows.items()
        )

    return remembered(spec, ("one head",), make)


def _endless(state: State) -> State:
    if not isinstance(state, PositionState) or state.window is None:
        return state
    return replace(state, window=None)
