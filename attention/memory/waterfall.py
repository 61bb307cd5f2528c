"""Why a cache is small: steps from multi-head attention over the whole context to the model, one idea at a time.

Each step keeps the savings of the steps before it. So the last step is the model's own cache, exact to the byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from attention import sharing
from attention.formats import cache_format
from attention.memory.load import Load
from attention.memory.terms import Terms, remembered, terms_of, total
from attention.spec import Kind, Layer, ModelSpec, PositionState, Role, State

_PLAIN = "bf16"
"""The format of every step before the last."""
_KEPT_APART = (Role.KEY_VALUE, Role.LATENT, Role.COMPRESSED)


class Step(NamedTuple):
    """The cache after one idea.

    Attributes:
        name: the idea, in a few words.
        state_bytes: bytes of the whole batch after this idea.
    """

    name: str
    state_bytes: int


def waterfall(spec: ModelSpec, load: Load) -> tuple[Step, ...]:
    """The model as multi-head attention, then each idea that changes its cache at this load; empty without attention.

    The ideas, in order: query heads share K/V heads; layers keep a window, a latent vector or compressed entries;
    layers read another layer's cache; elements have another format than 16 bit.

    Raises:
        ValueError: recurrent states of unknown dtype.
    """
    if not sharing.has_attention(spec):
        return ()
    named = remembered(spec, ("waterfall",), lambda: _plain_steps(spec))
    sizes = [(name, load.batch * terms.at(load.context)) for name, terms in named]
    sizes.append((f"stored as {load.kv_dtype}", load.batch * total(spec, cache_format(load.kv_dtype)).at(load.context)))
    steps: list[Step] = []
    for name, size in sizes:
        if not steps or size != steps[-1].state_bytes:
            steps.append(Step(name, size))
    return tuple(steps)


def _plain_steps(spec: ModelSpec) -> list[tuple[str, Terms]]:
    kinds = {layer.kind for layer, _ in spec.groups}
    return [
        ("as MHA, all tokens", _terms(spec, _as_mha)),
        (f"heads shared: {sharing.of(spec)}", _terms(spec, _heads_shared)),
        (_name_of(kinds), _terms(spec, lambda _, own: own)),
        ("layers shared", total(spec, cache_format(_PLAIN))),
    ]


def _name_of(kinds: set[Kind]) -> str:
    words = {
        Kind.SLIDING: "windows", Kind.CHUNKED: "chunks", Kind.LATENT: "a latent vector", Kind.COMPRESSED: "compression",
    }  # fmt: skip
    return " and ".join(word for kind, word in words.items() if kind in kinds) or "layers as they are"


def _terms(spec: ModelSpec, states: Callable[[Layer, tuple[State, ...]], Iterable[State]]) -> Terms:
    counts: Counter[State] = Counter()
    for layer, n in spec.groups:
        own = spec.layers[layer.shares].states if layer.shares is not None else layer.states
        for state in states(layer, own):
            counts[state] += n
    return terms_of(counts.items(), spec.model_dtype, cache_format(_PLAIN))


def _as_mha(layer: Layer, own: tuple[State, ...]) -> Iterator[State]:
    """States with one K/V head for each query head, over all positions and without an indexer."""
    read = False
    for state in own:
        if not isinstance(state, PositionState):
            yield state
        elif state.role in _KEPT_APART:
            if not read:  # compressed layers keep several such states; one replaces them all
                yield PositionState(Role.KEY_VALUE, layer.n_heads, layer.k_head_dim, layer.v_head_dim)
            read = True
        elif state.role in sharing.PER_HEAD:
            yield sharing.state_with(state, layer.n_heads)


def _heads_shared(layer: Layer, own: tuple[State, ...]) -> Iterator[State]:
    """States with the model's number of K/V heads, over all positions. Latent layers are still multi-head here: the
    latent vector is the next idea."""
    read = False
    for state in own:
        if not isinstance(state, PositionState):
            yield state
        elif state.role is Role.LATENT:
            yield PositionState(Role.KEY_VALUE, layer.n_heads, layer.k_head_dim, layer.v_head_dim)
        elif state.role in _KEPT_APART:
            if not read:
                yield replace(state, role=Role.KEY_VALUE, window=None, stride=1, reads=None, dtype=None)
            read = True
        elif state.role in sharing.PER_HEAD:
            yield state
