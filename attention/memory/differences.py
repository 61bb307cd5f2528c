"""What differs between the caches of two models, field by field: the number, the configuration's field that states it,
and the rule by which it enters the bytes.

The numbers come from the layers as read by ``configs/``, so there is also a number where the file leaves the field
out. The field's name is shown where the file states it under one of its usual names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from attention.configs.names import HEADS, KV_HEADS, LAYERS, WIDTH
from attention.formats import cache_format
from attention.memory.comparison import Compared, kinds_in_words
from attention.spec import FixedState, Kind, Layer, ModelSpec, PositionState, Role
from attention.units import binary_bytes, counted, held, parameters, significant


class Difference(NamedTuple):
    """One number of both models.

    Attributes:
        what: what the number is, in a few words; rule: how it enters the bytes.
        left, right: the number of each model as shown; empty where a model has none.
        left_field, right_field: the configuration's field that states it, or why there is none.
    """

    what: str
    rule: str
    left: str
    right: str
    left_field: str = ""
    right_field: str = ""

    @property
    def differs(self) -> bool:
        """Whether the two numbers are shown differently."""
        return self.left != self.right


class _Rule(NamedTuple):
    what: str
    rule: str
    shown: Callable[[ModelSpec], str]
    names: tuple[str, ...]
    unstated: str


_PATTERN = (
    "layer_types", "sliding_window_pattern", "layers_block_type", "hybrid_override_pattern", "full_attention_interval",
    "block_types", "attn_type_list", "no_rope_layers", "compress_ratios", "max_window_layers",
)  # fmt: skip


def _layer(spec: ModelSpec) -> Layer | None:
    return spec.attention_layer


def _windows(spec: ModelSpec) -> str:
    layers = {
        (state.window, layer.kind)
        for layer, _ in spec.groups
        for state in layer.states
        if isinstance(state, PositionState) and state.window and layer.kind in (Kind.SLIDING, Kind.CHUNKED)
    }
    return ", ".join(f"{window:,}" for window, _ in sorted(layers, key=str))


def _of(role: Role, part: str) -> Callable[[ModelSpec], str]:
    def shown(spec: ModelSpec) -> str:
        sizes = {
            getattr(state, part)
            for layer, _ in spec.groups
            for state in layer.states
            if isinstance(state, PositionState) and state.role is role
        }
        return ", ".join(f"{size:,}" for size in sorted(sizes))

    return shown


def _head_dim(spec: ModelSpec) -> str:
    layer = _layer(spec)
    if layer is None or not layer.n_heads:
        return ""
    if layer.k_head_dim == layer.v_head_dim:
        return f"{layer.k_head_dim:,}"
    return f"keys {layer.k_head_dim:,}, values {layer.v_head_dim:,}"


def _kv_heads(spec: ModelSpec) -> str:
    """The numbers of K/V heads of all layers that have them. MLA layers have one vector for all heads instead."""
    sizes = {layer.n_kv_heads for layer, _ in spec.groups if layer.n_kv_heads and layer.kind is not Kind.LATENT}
    return ", ".join(f"{size:,}" for size in sorted(sizes))


def _fixed(spec: ModelSpec) -> str:
    states = ((state, n) for layer, n in spec.groups for state in layer.states if isinstance(state, FixedState))
    elements = sum(n * state.elements for state, n in states)
    return f"{elements:,} elements" if elements else ""


def _shared(spec: ModelSpec) -> str:
    n = sum(count for layer, count in spec.groups if layer.kind is Kind.SHARED)
    return f"{n:,}" if n else ""


_RULES: tuple[_Rule, ...] = (
    _Rule(
        "layers", "Each layer keeps its own keys and values, so bytes grow with the layers.",
        lambda spec: f"{spec.n_layers:,}", LAYERS, "",
    ),
    _Rule(
        "layers by kind", "Only full layers keep every token; the others keep a window, a vector or a fixed state.",
        kinds_in_words, _PATTERN, "follows from its model_type",
    ),
    _Rule(
        "query heads", "They are not kept; divided by the K/V heads they give how many read each.",
        lambda spec: f"{spec.n_heads:,}" if spec.n_heads else "", HEADS, "",
    ),
    _Rule(
        "K/V heads", "Elements per token and layer: 2 × K/V heads × head size. Not stated: one for each query head.",
        _kv_heads,
        (*KV_HEADS, "multi_query"), "not stated: as its class has it",
    ),
    _Rule(
        "head size", "Elements per token and layer: 2 × K/V heads × head size. Not stated: width ÷ query heads.",
        _head_dim, ("head_dim", "kv_channels", "d_kv", "attention_head_dim", "v_head_dim"),
        "not stated: width ÷ query heads, or its class's",
    ),
    _Rule(
        "latent vector", "One for all heads of a layer, in place of keys and values: this many elements per token …",
        _of(Role.LATENT, "k_head_dim"), ("kv_lora_rank",), "",
    ),
    _Rule(
        "its RoPE part", "… and these, which carry the position.",
        _of(Role.LATENT, "v_head_dim"), ("qk_rope_head_dim",), "",
    ),
    _Rule(
        "indexer keys", "A sparse indexer keeps a key of its own per token, to pick what is read.",
        _of(Role.INDEXER, "k_head_dim"), ("index_head_dim",), "",
    ),
    _Rule(
        "window, tokens", "A windowed layer keeps min(context, window) tokens.",
        _windows, ("sliding_window", "attention_chunk_size", "sliding_window_size", "window_size"), "its class's",
    ),
    _Rule(
        "layers without a cache of their own", "They read an earlier layer's cache and add nothing.",
        _shared, ("num_kv_shared_layers", "use_cla", "kv_source_layers"), "",
    ),
    _Rule(
        "fixed states", "Recurrent and convolution states of all layers: the same size whatever the context.",
        _fixed, ("linear_num_value_heads", "mamba_d_state", "ssm_state_size", "state_size", "conv_L_cache"),
        "its class's",
    ),
    _Rule(
        "width", "No part of the cache, unless the head size follows from it.",
        lambda spec: f"{spec.hidden_size:,}" if spec.hidden_size else "", WIDTH, "",
    ),
    _Rule(
        "parameters", "No part of the cache: they are the weights beside it.",
        lambda spec: parameters(spec.n_parameters) if spec.n_parameters else "", (), "as counted",
    ),
)  # fmt: skip


def _stated(config: Mapping[str, Any] | None, names: tuple[str, ...], unstated: str) -> str:
    """The first of `names` that `config` or its text_config states, in the second case with that part's name before it;
    else `unstated`."""
    if config is None:
        return "as typed" if names else unstated
    for prefix in ("", "text_config"):
        part = config.get(prefix) if prefix else config
        if isinstance(part, Mapping):
            for name in names:
                if part.get(name) is not None:
                    return f"{prefix}.{name}" if prefix else name
    return unstated


def differences(
    left: Compared,
    right: Compared,
    left_config: Mapping[str, Any] | None = None,
    right_config: Mapping[str, Any] | None = None,
) -> tuple[Difference, ...]:
    """Every number that decides a cache, for two rows of a comparison. Numbers that neither model has are left out.

    Args:
        left_config, right_config: the configurations of the two models, published or pasted; None without one.

    Raises:
        ValueError: the sizes of one of the models are not published.
    """
    for row in (left, right):
        if row.spec is None:
            raise ValueError(f"{row.label} has no published sizes, so there is nothing to compare field by field")
    assert left.spec is not None
    assert right.spec is not None
    found = []
    for rule in _RULES:
        a, b = rule.shown(left.spec), rule.shown(right.spec)
        if a or b:
            fields = (
                _stated(config, rule.names, rule.unstated) if value else ""
                for config, value in ((left_config, a), (right_config, b))
            )
            found.append(Difference(rule.what, rule.rule, a, b, *fields))
    found += [_format(left, right), *_results(left, right)]
    return tuple(row for row in found if row.left or row.right)


def _format(left: Compared, right: Compared) -> Difference:
    def shown(row: Compared) -> str:
        fmt = cache_format(row.kv_dtype)
        return f"{row.kv_dtype}, {significant(fmt.bits_per_element / 8)} B"

    return Difference(
        "cache format", "Bytes per element, scales included; chosen here, not by the model.", shown(left), shown(right)
    )


def _results(left: Compared, right: Compared) -> tuple[Difference, ...]:
    def size(value: int | None) -> str:
        return "" if value is None else binary_bytes(value)

    at = f"{held(left.context)}, {counted(left.batch, 'sequence')}"
    return (
        Difference(
            "for one more token", "The sum over the layers that still grow at this context.",
            size(left.bytes_per_token), size(right.bytes_per_token),
        ),
        Difference(
            f"at {at}", "The sum over all layers: elements per token × tokens kept × bytes per element.",
            size(left.state_bytes), size(right.state_bytes),
        ),
    )  # fmt: skip
