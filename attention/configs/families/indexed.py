"""Hybrids in which an indexer picks what attention layers read; other layers have linear attention or windows.

Their modelling code is in transformers. The counts here are what its cache holds on meta tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from attention.configs.adapter import Adapter
from attention.configs.families import hybrid, latent, ordinary
from attention.configs.fields import Reader
from attention.errors import shown
from attention.spec import FixedState, Layer, PositionState, Role, attention_layer, check_size, latent_layer

INDEXED = ("indexed_attention", *ordinary.FULL)


def _kinds(reader: Reader, n_layers: int, known: tuple[str, ...]) -> list[str]:
    kinds = reader.per_layer("layer_types", n_layers)
    if kinds is None:
        reader.refuse("layer_types", "is missing: the file does not state which layers have attention")
    for kind in kinds:
        if kind not in known:
            reader.refuse("layer_types", f"holds {shown(kind)}, which {reader.model_type} does not have")
    return kinds


def kda(reader: Reader) -> Layer:
    """Kimi Delta Attention (arXiv:2510.26692): short convolutions over q, k and v, and one matrix per head."""
    heads, head_dim = (check_size(name, reader.default(name)) for name in ("linear_num_heads", "linear_head_dim"))
    kernel = check_size("linear_conv_kernel_dim", reader.default("linear_conv_kernel_dim"))
    return hybrid.recurrent(3 * heads * head_dim * kernel, heads * head_dim * head_dim, heads)


def read_qwen4_exp(reader: Reader) -> list[Layer]:
    """Qwen4-Exp: gated DeltaNet, and ordinary attention in every full_attention_interval-th layer, whose indexer has
    one key head. Linear layers in `ple_layer_ids` (counted from 1) also keep the convolution of their per-layer
    embedding, and the last ngram_size - 1 tokens as 64-bit numbers."""
    n_layers = reader.n_layers
    kinds = _kinds(reader, n_layers, ("linear_attention", *INDEXED))
    attention = attention_layer(reader.n_heads, reader.n_kv_heads(), reader.head_dim())
    if reader.default("indexer_n_heads") is not None:
        held = attention.states[0]
        assert isinstance(held, PositionState)
        keys = PositionState(Role.INDEXER, 1, reader.size("indexer_head_dim"), 0)
        attention = replace(attention, states=(replace(held, reads=reader.size("indexer_budget")), keys))
    linear = hybrid.delta_rule(reader)
    embedded = set(reader.default("ple_layer_ids") or ())
    with_embedding = replace(linear, states=(*linear.states, *_embedding(reader))) if embedded else linear
    return [
        attention if kind in INDEXED else with_embedding if index + 1 in embedded else linear
        for index, kind in enumerate(kinds)
    ]


def _embedding(reader: Reader) -> list[FixedState]:
    ngram = reader.size("ngram_size", minimum=2)
    columns = (reader.size("ple_conv_kernel_size", minimum=2) - 1) * ngram
    tokens = FixedState(Role.BUFFER, 2 * (ngram - 1), "fp32")  # two fp32 elements have the bytes of one 64-bit number
    return [FixedState(Role.CONVOLUTION, columns * reader.width * reader.size("hc_count")), tokens]


def prepare_qwen4_exp(raw: dict[str, Any]) -> dict[str, Any]:
    """The fields with an end-of-text token: the class requires one for per-layer embeddings, and any token will do."""
    return {"eos_token_id": 0, **raw}


def read_glm5_next(reader: Reader) -> list[Layer]:
    """GLM-5.3: KDA, and a latent without RoPE in every fourth layer. A layer with its own indexer keeps three things
    per token: the index key, the gate scores that pool it, and one element that marks it as valid."""
    n_layers = reader.n_layers
    kinds = _kinds(reader, n_layers, ("linear_attention", *INDEXED))
    rope = reader.size("qk_rope_head_dim", minimum=0)
    plain = latent_layer(
        reader.n_heads,
        reader.size("kv_lora_rank"),
        rope,
        reader.size("qk_nope_head_dim", minimum=0),
        reader.size("v_head_dim"),
        reads=reader.size("index_topk"),
    )
    packed = PositionState(Role.INDEXER, 1, 2 * reader.size("index_head_dim") + 1, 0)
    indexed = replace(plain, states=(*plain.states, packed))
    types = reader.per_layer("indexer_types", n_layers) or ["full"] * n_layers
    if any(kind not in ("full", "shared") for kind in types):
        reader.refuse("indexer_types", 'must hold "full" and "shared" only')
    linear = kda(reader)
    return [
        (indexed if own == "full" else plain) if kind in INDEXED else linear
        for kind, own in zip(kinds, types, strict=True)
    ]


def read_dots3_note(reader: Reader) -> list[Layer]:
    """dots3-note: latents of two sizes; windowed layers have no indexer. The indexer's keys stay in float32."""
    n_layers = reader.n_layers
    kinds = _kinds(reader, n_layers, ("sliding_attention", *INDEXED))

    def size(of: Any, name: str, minimum: int = 1) -> int:
        return check_size(f"{reader.prefix}{name}", getattr(of, name), minimum)

    made: dict[str, Layer] = {}
    for kind in dict.fromkeys(kinds):
        own = reader.defaults.per_layer_config[kind]
        layer = latent_layer(
            size(own, "num_attention_heads"),
            size(own, "kv_lora_rank"),
            size(own, "qk_rope_head_dim", 0),
            size(own, "qk_nope_head_dim", 0),
            size(own, "v_head_dim"),
        )
        held = layer.states[0]
        assert isinstance(held, PositionState)
        if kind == "sliding_attention":
            layer = replace(layer, states=(replace(held, window=reader.window()),))
        elif kind == "indexed_attention":
            keys = PositionState(Role.INDEXER, 1, size(own, "index_head_dim"), 0, dtype="fp32")
            layer = replace(layer, states=(replace(held, reads=size(own, "index_topk")), keys))
        made[kind] = layer
    return [made[kind] for kind in kinds]


def _is_lightning(part: Mapping[str, Any]) -> bool:
    """Whether a file is Ring or Ling 2.5. Version 3.0 has the same type, but its linear layers have convolutions."""
    return part.get("group_norm_size") is not None and part.get("short_conv_kernel_size") is None


def read_bailing_hybrid(reader: Reader) -> list[Layer]:
    """Ling and Ring 2.5 and 3.0: the last layer of each group of layer_group_size layers is a latent. The others are
    KDA (3.0), or lightning attention (2.5; vLLM's bailing_moe_linear.py), which keeps one float32 matrix per head."""
    n_layers = reader.n_layers
    group = reader.size("layer_group_size")
    if n_layers % group and not reader.raw.get("layer_types"):
        reader.refuse(
            "layer_group_size",
            f"= {group} does not divide {n_layers} layers: transformers' code and the published one then differ on "
            "the last ones, and layer_types is not stated",
        )
    kinds = _kinds(reader, n_layers, ("linear_attention", *ordinary.FULL))
    attention, linear = latent.latent(reader), kda(reader)
    if _is_lightning(reader.raw):
        heads = reader.n_heads
        head_dim = reader.stated("head_dim") or reader.even_head_dim()
        linear = hybrid.recurrent(None, heads * head_dim * head_dim, heads)
    return [linear if kind == "linear_attention" else attention for kind in kinds]


ADAPTERS = {
    "qwen4_exp_text": Adapter(read_qwen4_exp, prepare=prepare_qwen4_exp),
    "glm5_next_text": Adapter(read_glm5_next),
    "dots3_note_text": Adapter(read_dots3_note, by_layer=True),
    "bailing_hybrid": Adapter(read_bailing_hybrid, foreign=_is_lightning),
}
