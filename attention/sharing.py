"""How query heads share K/V heads: the names, the possible numbers of K/V heads, and models with another number.

Query heads come in equal groups, and each group has its own K/V head. With as many groups as query heads this is
multi-head attention (MHA). With one group it is multi-query attention (MQA, arXiv:1911.02150). With any number between
it is grouped-query attention (GQA, arXiv:2305.13245). Multi-head latent attention (MLA, arXiv:2405.04434) shares in
another way: all query heads read one vector.
"""

from __future__ import annotations

from dataclasses import replace
from math import isqrt

from attention.spec import Kind, Layer, ModelSpec, PositionState, Role, State, check_divides

PER_HEAD = (Role.KEY_VALUE, Role.COMPRESSED, Role.CROSS)
"""Roles of the states whose number of heads is the layer's number of K/V heads."""


def name(n_heads: int, n_kv_heads: int) -> str:
    """MHA, GQA-8 or MQA. One query head with one K/V head is MHA."""
    if n_kv_heads == n_heads:
        return "MHA"
    return "MQA" if n_kv_heads == 1 else f"GQA-{n_kv_heads}"


def of_layer(layer: Layer) -> str:
    """How a layer with attention shares: "MHA", "GQA-8" (8 K/V heads), "MQA" or "MLA"."""
    return "MLA" if layer.kind is Kind.LATENT else name(layer.n_heads, layer.n_kv_heads)


def of(spec: ModelSpec) -> str:
    """How the layer that represents a model shares: see :func:`of_layer`; "no K/V" where no layer has heads."""
    layer = spec.attention_layer
    return of_layer(layer) if layer is not None and layer.n_heads else "no K/V"


def family(spec: ModelSpec) -> str:
    """MHA, GQA, MQA or MLA without a number; "none" where no layer has heads."""
    return of(spec).partition("-")[0] if has_attention(spec) else "none"


def has_attention(spec: ModelSpec) -> bool:
    """Whether some layer has query heads and caches what they read. A purely recurrent model has no such layer."""
    return spec.n_heads > 0


def divisors(n: int) -> tuple[int, ...]:
    """Divisors of n in rising order: the numbers of K/V heads that n query heads can share."""
    small = [d for d in range(1, isqrt(n) + 1) if n % d == 0]
    return tuple(sorted({*small, *(n // d for d in small)}))


def states_with(layer: Layer, n_kv_heads: int | None) -> tuple[State, ...]:
    """The states of `layer` with `n_kv_heads` K/V heads (None: one per query head).

    A latent layer gets the keys and values of ordinary attention with its expanded head sizes.

    Raises:
        ValueError: n_kv_heads does not divide the query heads.
    """
    n = layer.n_heads if n_kv_heads is None else n_kv_heads
    if layer.n_kv_heads:
        check_divides(layer.n_heads, n)
    if layer.kind is Kind.LATENT:
        return (PositionState(Role.KEY_VALUE, n, layer.k_head_dim, layer.v_head_dim),)
    return tuple(state_with(s, n) if isinstance(s, PositionState) and s.role in PER_HEAD else s for s in layer.states)


def state_with(state: PositionState, n_kv_heads: int) -> PositionState:
    """The state with `n_kv_heads` K/V heads."""
    return state if state.n_kv_heads == n_kv_heads else replace(state, n_kv_heads=n_kv_heads)


def layer_with(layer: Layer, n_kv_heads: int | None) -> Layer:
    """The layer with `n_kv_heads` K/V heads; see :func:`states_with`."""
    states = states_with(layer, n_kv_heads)
    if layer.kind is Kind.LATENT:
        return Layer(Kind.FULL, states, layer.n_heads, layer.k_head_dim, layer.v_head_dim)
    return layer if states == layer.states else replace(layer, states=states)


def with_n_kv_heads(spec: ModelSpec, n_kv_heads: int | None) -> ModelSpec:
    """The counterfactual model whose attention layers all have `n_kv_heads` K/V heads; None means MHA.

    Windows, shared layers and recurrent layers stay as they are. A latent layer becomes ordinary attention with full K
    and V of its expanded head sizes. DeepSeek-V4's compressed layers keep their compression.

    Raises:
        ValueError: n_kv_heads does not divide the query heads of some attention layer.
    """
    title = "MHA" if n_kv_heads is None else name(0, n_kv_heads)
    changed = {id(layer): layer_with(layer, n_kv_heads) for layer in {id(x): x for x in spec.layers}.values()}
    return replace(spec, name=f"{spec.name} as {title}", layers=tuple(changed[id(layer)] for layer in spec.layers))


def mha_of(spec: ModelSpec) -> ModelSpec | None:
    """The model as multi-head attention, made once; None if it has no attention or the heads of a layer do not fit."""
    if not has_attention(spec):
        return None
    key = ("as MHA", spec.name, spec.n_parameters)
    if key not in spec.memo:
        try:
            spec.memo[key] = with_n_kv_heads(spec, None)
        except ValueError:
            spec.memo[key] = None  # the sizes of some layer do not allow it: the counterfactual does not exist
    found: ModelSpec | None = spec.memo[key]
    return found
