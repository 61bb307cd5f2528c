"""The bytes of a model as a sum of few terms, which is built once and is fast at any context.

A state with positions needs ``row · min(x, window)`` bytes, where x is the context divided by the stride. The sum of
all states with one stride is a line with a bend at each window, for any number of layers. With the windows in order,
and the sums of the rows before and after each, one search gives the bytes at any context. Every sum is an exact
integer.
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
"""Most results kept with one model. A further result first clears the others."""


def remembered(spec: ModelSpec, key: tuple[object, ...], make: Callable[[], T]) -> T:
    """The result of ``make()``, kept with the spec. It may depend only on the layers, the model's dtype and `key`."""
    known = spec.memo
    if key not in known:
        if len(known) >= _REMEMBERED:
            known.clear()
        known[key] = make()
    return known[key]


class Bend:
    """The sum of ``weight · min(x, cap)`` over any number of terms; one search gives it for any x."""

    __slots__ = ("_after", "_before", "_caps")

    def __init__(self, terms: Iterable[tuple[int, int | None]]) -> None:
        """Make the sum of terms (weight, cap); a cap of None is no cap."""
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
        """The sum at x."""
        i = bisect_right(self._caps, x)
        return self._before[i] + x * self._after[i]


class Terms(NamedTuple):
    """The bytes of some layers for one sequence.

    Attributes:
        fixed: bytes that do not depend on the context.
        cross: bytes for each position of the source (cross-attention).
        bends: (weight, stride, sum over decoder states that keep one entry per `stride` tokens); each adds weight times
            the sum.
    """

    fixed: int
    cross: int
    bends: tuple[tuple[int, int, Bend], ...]

    def at(self, context: int, encoder_context: int | None = None) -> int:
        """Bytes at a context in tokens; `encoder_context` defaults to `context`."""
        total = self.fixed + self.cross * (context if encoder_context is None else encoder_context)
        for weight, stride, bend in self.bends:
            total += weight * bend.at(context // stride)
        return total


def row_bytes(state: PositionState, fmt: CacheFormat) -> int:
    """Bytes of one position of `state`: the K and V rows of all its heads."""
    if state.dtype is not None:
        return state.elements_per_position * DTYPE_BYTES[state.dtype]
    return fmt.row_bytes(state.n_kv_heads * state.k_head_dim) + fmt.row_bytes(state.n_kv_heads * state.v_head_dim)


def fixed_state_bytes(state: FixedState, model_dtype: str | None, fmt: CacheFormat) -> int:
    """Bytes of a state of fixed size, in its own dtype or else in the model's.

    Raises:
        ValueError: neither dtype is stated, and it does not follow from the cache format.
    """
    dtype = state.dtype or model_dtype
    if dtype is None:
        # a 16- or 32-bit cache format is the dtype in which the model runs; a quantised format does not tell it
        if fmt.name not in ("bf16", "fp16", "fp32"):
            raise ValueError(
                "torch_dtype is not stated, so the size of the convolution and recurrent states is not known; "
                "state torch_dtype or choose kv_dtype bf16, fp16 or fp32"
            )
        dtype = fmt.name
    return state.elements * DTYPE_BYTES[dtype]


def terms_of(states: Iterable[tuple[State, int]], model_dtype: str | None, fmt: CacheFormat) -> Terms:
    """The terms of some states, given as (state, number of layers that keep it).

    Raises:
        ValueError: a state of fixed size whose dtype is not known.
    """
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
    """Number of layers that keep each distinct state, by (kind of layer, state), in order of first appearance."""

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
    """The terms of each kind of layer, in order of first appearance. All terms of a kind that keeps nothing are 0."""

    def make() -> dict[Kind, Terms]:
        states: dict[Kind, list[tuple[State, int]]] = {layer.kind: [] for layer, _ in spec.groups}
        for (kind, state), n in state_counts(spec).items():
            states[kind].append((state, n))
        return {kind: terms_of(some, spec.model_dtype, fmt) for kind, some in states.items()}

    return remembered(spec, ("by kind", fmt.name), make)


def head_step(spec: ModelSpec) -> int:
    """The greatest number of K/V heads that divides the query heads of every layer with a cache (0: no such layer)."""
    return remembered(
        spec, ("head step",), lambda: gcd(*(layer.n_heads for layer, _ in spec.groups if layer.n_kv_heads))
    )


def shared_total(spec: ModelSpec, n_kv_heads: int | None, fmt: CacheFormat) -> Terms:
    """The terms of the counterfactual model with `n_kv_heads` K/V heads in every attention layer (None: one per query
    head).

    See ``sharing.with_n_kv_heads``. No layers are made here, so that many numbers of heads can be tried quickly.

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
    """Bytes of one sequence of the counterfactual model of :func:`shared_total`."""
    return shared_total(spec, n_kv_heads, fmt).at(context)


def _one_head(spec: ModelSpec) -> tuple[tuple[State, int, Bend], ...]:
    """(state, number of layers that keep it, sum of the positions that these hold) of the model as MQA.

    States that differ only in their window count as one state.
    """

    def make() -> tuple[tuple[State, int, Bend], ...]:
        windows: dict[State, Counter[int | None]] = defaultdict(Counter)
        for layer, n in spec.groups:
            for state in states_with(layer, 1):
                window = state.window if isinstance(state, PositionState) else None
                windows[_without_window(state)][window] += n
        return tuple(
            (state, sum(counts.values()), Bend((n, window) for window, n in counts.items()))
            for state, counts in windows.items()
        )

    return remembered(spec, ("one head",), make)


def _without_window(state: State) -> State:
    if not isinstance(state, PositionState) or state.window is None:
        return state
    return replace(state, window=None)
