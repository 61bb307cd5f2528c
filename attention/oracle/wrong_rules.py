"""Wrong rules of known calculators. Each is wrong for some family; the page shows the size of its error."""

from __future__ import annotations

from attention.formats import cache_format
from attention.memory.footprint import layer_bytes
from attention.spec import FixedState, Kind, Layer, ModelSpec, PositionState, Role

RULES: dict[str, str] = {
    "hidden_size": "2 · layers · hidden_size · 2 bytes: every query head has its own K and V",
    "head_dim": "head_dim taken as hidden_size / query heads",
    "no_windows": "sliding and chunked layers counted at full length",
    "full_layers_only": "sliding and chunked layers left out",
    "latent_as_heads": "a latent cache counted as full K and V heads of hidden_size / query heads",
    "latent_without_rope": "a latent cache counted without its RoPE part",
    "every_layer": "layers with a fixed state, or none, counted as attention layers at full length",
    "no_states": "convolution and recurrent states forgotten",
    "shared_layers": "layers that read another layer's cache counted as if they kept their own",
    "no_indexer": "a sparse indexer's keys forgotten",
}
"""The text of each rule, as shown to the reader."""


def rule_bytes(rule: str, spec: ModelSpec, context: int) -> int | None:
    """Bytes of one sequence in bf16 by a wrong rule; None where the rule does not apply to the model."""
    if rule == "hidden_size":
        return None if spec.hidden_size is None else 2 * spec.n_layers * spec.hidden_size * 2 * context
    stand_in = spec.attention_layer
    if stand_in is None or (rule == "latent_as_heads" and spec.hidden_size is None):
        return None
    changed = [_changed(rule, layer, stand_in, spec) for layer in spec.layers]
    if all(a is b for a, b in zip(changed, spec.layers, strict=True)):
        return None
    fmt = cache_format("bf16")
    return sum(
        0 if layer is None else layer_bytes(layer, context, fmt, spec.model_dtype or "bf16") for layer in changed
    )


def _changed(rule: str, layer: Layer, stand_in: Layer, spec: ModelSpec) -> Layer | None:
    """The layer as the rule counts it: None if the rule counts nothing, the same object if it changes nothing."""
    state = layer.key_value
    match rule:
        case "head_dim":
            width = (spec.hidden_size or 0) // layer.n_heads if layer.n_heads else 0
            if state is None or state.role is not Role.KEY_VALUE or not width or width == state.k_head_dim:
                return layer
            return _full(layer, state.n_kv_heads, width, state.window)
        case "no_windows" if layer.kind in (Kind.SLIDING, Kind.CHUNKED) and state is not None:
            return _full(layer, state.n_kv_heads, state.k_head_dim, None)
        case "full_layers_only" if layer.kind in (Kind.SLIDING, Kind.CHUNKED):
            return None
        case "latent_as_heads" if layer.kind is Kind.LATENT and (spec.hidden_size or 0) >= layer.n_heads:
            return _full(layer, layer.n_heads, (spec.hidden_size or 0) // layer.n_heads, None)
        case "latent_without_rope" if layer.kind is Kind.LATENT and state is not None:
            bare = PositionState(Role.LATENT, 1, state.k_head_dim, 0)
            rest = tuple(s for s in layer.states if s is not state)
            return Layer(layer.kind, (bare, *rest), layer.n_heads, layer.k_head_dim, layer.v_head_dim)
        case "every_layer" if layer.kind in (Kind.RECURRENT, Kind.NONE):
            return stand_in
        case "no_states" if any(isinstance(s, FixedState) for s in layer.states):
            rest = tuple(s for s in layer.states if not isinstance(s, FixedState))
            return Layer(layer.kind, rest, layer.n_heads, layer.k_head_dim, layer.v_head_dim) if rest else None
        case "shared_layers" if layer.shares is not None:
            return spec.layers[layer.shares]
        case "no_indexer" if any(isinstance(s, PositionState) and s.role is Role.INDEXER for s in layer.states):
            rest = tuple(s for s in layer.states if s.role is not Role.INDEXER)
            return Layer(layer.kind, rest, layer.n_heads, layer.k_head_dim, layer.v_head_dim)
    return layer


def _full(layer: Layer, n_kv_heads: int, head_dim: int, window: int | None) -> Layer:
    state = PositionState(Role.KEY_VALUE, n_kv_heads, head_dim, head_dim, window)
    rest = tuple(s for s in layer.states if s is not layer.key_value)
    kind = Kind.FULL if window is None else layer.kind
    return Layer(kind, (state, *rest), layer.n_heads, head_dim, head_dim)
