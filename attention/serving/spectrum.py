"""From MHA to MQA: the cache, the parameters and the least time of one model with each number of K/V heads."""

from __future__ import annotations

from typing import NamedTuple

from attention import sharing
from attention.catalog.published import Accelerator
from attention.formats import cache_format
from attention.memory.footprint import sequence_bytes
from attention.memory.load import Load
from attention.memory.terms import (
    head_step,
    remembered,
    shared_total,
    total,
)
from attention.serving.roofline import attention_floor
from attention.spec import Kind, ModelSpec, PositionState, Role


class Point(NamedTuple):
    """One number of K/V heads.

    Attributes:
        cache_bytes: bytes of the cache of the whole batch.
        attention_parameters: weights of the Q, K, V and output projections of all layers; None if the model's width
            is not known, and for latent attention.
        floor_s: least time of one attention layer's step on the accelerator, in seconds; None for latent attention,
            which has other arithmetic.
        name: how the heads are shared, e.g. "GQA-8".
    """

    n_kv_heads: int
    cache_bytes: int
    attention_parameters: int | None
    floor_s: float | None
    name: str = ""


def attention_parameters(spec: ModelSpec, n_kv_heads: int | None) -> int | None:
    """Weights of the attention projections with `n_kv_heads` K/V heads in every layer (None: the model's own numbers).

    Without biases they are width · (k + v head size) · (n_heads + n_kv_heads) per layer. None if width is not known.
    """
    if spec.hidden_size is None:
        return None

    def make() -> tuple[int, int, int]:
        per_query = per_kv = own = 0
        for layer, n in spec.groups:
            for state in sharing.states_with(layer, 1):
                if isinstance(state, PositionState) and state.role is Role.KEY_VALUE:
                    sizes = n * (state.k_head_dim + state.v_head_dim)
                    per_query += sizes * layer.n_heads
                    per_kv += sizes
                    own += sizes * layer.n_kv_heads
        return per_query, per_kv, own

    per_query, per_kv, own = remembered(spec, ("projections",), make)
    return (per_query + (own if n_kv_heads is None else n_kv_heads * per_kv)) * spec.hidden_size


def spectrum(spec: ModelSpec, accelerator: Accelerator, load: Load) -> tuple[Point, ...]:
    """A point for each number of K/V heads that divides the query heads of every layer, from 1 (MQA) to all (MHA).

    The point at the model's own number is the model itself, also where some of its layers have other numbers. A model
    that keeps a latent vector has its own point before the others, with 0 K/V heads.

    Raises:
        ValueError: the model has no attention layer.
    """
    if not spec.n_heads:
        raise ValueError(f"{spec.name} has no attention layer, so no heads to share: choose another model")
    peak = accelerator.flops_per_s.get("bf16") or accelerator.flops_per_s.get("fp16")
    context, batch, fmt = load.context, load.batch, cache_format(load.kv_dtype)
    points = []
    if is_latent(spec):
        points.append(Point(0, batch * sequence_bytes(spec, context, fmt), None, None, "MLA"))
    for k in _possible(spec):
        is_own = k == spec.n_kv_heads and not is_latent(spec)
        whole = total(spec, fmt) if is_own else shared_total(spec, k, fmt)
        weights = attention_parameters(spec, None if is_own else k)
        floor = attention_floor(spec.n_heads, k, spec.head_dim, context, batch, "bf16", accelerator.bytes_per_s, peak)
        points.append(Point(k, batch * whole.at(context), weights, floor.time_s, sharing.name(spec.n_heads, k)))
    return tuple(points)


def is_latent(spec: ModelSpec) -> bool:
    """Whether the layer that represents the model keeps a latent vector."""
    return spec.attention_layer is not None and spec.attention_layer.kind is Kind.LATENT


def _possible(spec: ModelSpec) -> tuple[int, ...]:
    """Numbers of K/V heads that divide the query heads of every layer with its own cache."""
    return sharing.divisors(head_step(spec))


def nearest_published(n_heads: int, n_kv_heads: int) -> str:
    """The model of the GQA paper's Table 1 (arXiv:2305.13245) with the same kind of sharing: MHA, MQA or GQA."""
    if n_kv_heads == n_heads:
        return "MHA-XXL"
    return "MQA-XXL" if n_kv_heads == 1 else "GQA-8-XXL"
