"""The history of a family of models: how each release shares keys and values."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from attention import sharing
from attention.catalog import published
from attention.errors import check_choice
from attention.formats import cache_format
from attention.memory.footprint import sequence_bytes
from attention.memory.terms import remembered
from attention.spec import Kind, Layer, ModelSpec, PositionState, Role


class Ancestor(NamedTuple):
    """One model in its family's history.

    Attributes:
        lineage: order of its generation within the family, from 1.
        released: year and month.
        share: its cache divided by the cache of full-length MHA in every layer, in the same format and at the same
            context.
        bytes_per_token: average over the tokens held.
    """

    label: str
    generation: str
    lineage: int
    released: str
    sharing: str
    share: float
    bytes_per_token: float
    n_parameters: int | None


def lineage(family: str, context: int, kv_dtype: str = "bf16") -> tuple[Ancestor, ...]:
    """A family's models with published sizes and release, in order of release.

    Args:
        context: tokens held.

    Raises:
        ValueError: unknown family or format.
    """
    check_choice("family", family, published.families())
    fmt = cache_format(kv_dtype)
    out = []
    for row in published.models():
        if row.family != family or row.released is None or row.spec is None or not row.spec.n_heads:
            continue
        own = sequence_bytes(row.spec, context, fmt)
        full = sequence_bytes(_full_mha(row.spec), context, fmt)
        out.append(
            Ancestor(
                row.label, row.generation, row.lineage, row.released, sharing.of(row.spec), own / full,
                own / context, row.n_parameters,
            )
        )  # fmt: skip
    return tuple(sorted(out, key=lambda a: (a.released, a.label)))


@lru_cache(maxsize=4)
def families_with_history(at_least: int = 3) -> tuple[str, ...]:
    """Families with `at_least` generations of published sizes; the family with the most generations comes first."""
    generations: dict[str, set[int]] = {}
    for row in published.models():
        if row.released is not None and row.spec is not None and row.spec.n_heads:
            generations.setdefault(row.family, set()).add(row.lineage)
    kept = [(family, len(seen)) for family, seen in generations.items() if len(seen) >= at_least]
    return tuple(family for family, _ in sorted(kept, key=lambda pair: (-pair[1], pair[0])))


def _full_mha(spec: ModelSpec) -> ModelSpec:
    """The model with multi-head attention over the whole context in every layer.

    A layer without attention gets the heads of the layer that represents the model.
    """
    return remembered(spec, ("full MHA",), lambda: _as_full_mha(spec))


def _as_full_mha(spec: ModelSpec) -> ModelSpec:
    usual = spec.attention_layer
    assert usual is not None, "only models with attention have a history of sharing"

    def full(layer: Layer) -> Layer:
        like = layer if layer.n_heads and layer.k_head_dim else usual
        state = PositionState(Role.KEY_VALUE, like.n_heads, like.k_head_dim, like.v_head_dim or like.k_head_dim)
        return Layer(Kind.FULL, (state,), like.n_heads, like.k_head_dim, like.v_head_dim)

    return ModelSpec(spec.name, tuple(full(layer) for layer in spec.layers), spec.model_dtype)
