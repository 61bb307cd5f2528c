"""The groups of equal layers in a model, from which a visitor chooses; the typical group comes first."""

from __future__ import annotations

from typing import NamedTuple

from attention.memory.terms import remembered
from attention.spec import Kind, Layer, ModelSpec
from attention.units import counted, tokens


class LayerGroup(NamedTuple):
    """Equal layers; `indices` are their positions in the model, from 0."""

    layer: Layer
    indices: tuple[int, ...]

    @property
    def label(self) -> str:
        """The group in words, e.g. "sliding 1k · 16 K/V heads · 52 layers"."""
        return " · ".join((*_words(self.layer), counted(len(self.indices), "layer")))


def layer_groups(spec: ModelSpec) -> tuple[LayerGroup, ...]:
    """The groups of equal layers. Shared layers count as equal, whichever layer they read.

    The group of the layer that represents the model comes first, the others in order of appearance.
    """
    return remembered(spec, ("layer groups",), lambda: _grouped(spec))


def _grouped(spec: ModelSpec) -> tuple[LayerGroup, ...]:
    found: dict[tuple[object, ...], tuple[Layer, list[int]]] = {}
    for index, layer in enumerate(spec.layers):
        look = (layer.kind, layer.states, layer.n_heads, layer.k_head_dim, layer.v_head_dim)
        found.setdefault(look, (layer, []))[1].append(index)
    groups = [LayerGroup(layer, tuple(indices)) for layer, indices in found.values()]
    return tuple(sorted(groups, key=lambda group: group.layer != spec.attention_layer))


def _words(layer: Layer) -> tuple[str, ...]:
    state = layer.key_value
    window = f" {tokens(state.window)}" if state is not None and state.window is not None else ""
    kind = f"{layer.kind.value}{window}"
    if layer.kind is Kind.LATENT:
        return (kind, "one latent vector")
    if layer.n_kv_heads:
        return (kind, counted(layer.n_kv_heads, "K/V head"))
    return (kind,)
