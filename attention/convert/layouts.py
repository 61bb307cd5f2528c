"""Where each family has its K/V heads in a checkpoint, and which families have no K/V heads to merge.

A family is the ``model_type`` of its config.json. The layouts follow the models' own code in transformers, and tests
compare them with it. Nothing is guessed for a family that is not listed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of modules in a model and of fields in its config.

    Attributes:
        layers: name of the list of layers.
        attention: path of the attention module in a layer.
        separate: the K and the V projection; along their rows one head follows the other.
        fused: a single projection, whose rows are all query heads, then all K heads, then all V heads; else None.
        query: the query projection, if there is no fused one.
        out: the output projection, with n_heads * head_dim columns.
        head_norm: a norm with other weights for every K head, in one tensor ([n_kv_heads * head_dim] or
            [n_kv_heads, head_dim]). A norm that all heads share needs no change and is not named.
        head_norms: such norms as a list of modules, one per K head.
        heads_field, kv_heads_field: paths of the fields in the config.
    """

    layers: str = "layers"
    attention: str = "self_attn"
    separate: tuple[str, ...] = ("k_proj", "v_proj")
    fused: str | None = None
    query: str = "q_proj"
    out: str = "o_proj"
    head_norm: str | None = None
    head_norms: str | None = None
    heads_field: tuple[str, ...] = ("num_attention_heads",)
    kv_heads_field: tuple[str, ...] = ("num_key_value_heads",)

    def pattern(self) -> re.Pattern[str]:
        """Matches the name of an attention module's tensor. Groups: the layer's index, the name inside the module.

        Only prefixes of a language model match, so a vision tower's attention never changes.
        """
        prefix = r"(?:(?:model|language_model|transformer)\.)*"
        return re.compile(rf"{prefix}{re.escape(self.layers)}\.(\d+)\.{re.escape(self.attention)}\.(.+)")


_PLAIN = Layout()
_NORM_OVER_HEADS = Layout(head_norm="k_norm")

LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    dict.fromkeys(
        (
            "apertus", "arcee", "cohere2", "dots1", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3", "gemma3_text",
            "glm", "glm4", "glm4_moe", "gpt_oss", "granite", "granitemoe", "helium", "hunyuan_v1_dense", "llama",
            "ministral", "mistral", "mixtral", "nemotron", "olmo", "phimoe", "qwen2", "qwen2_moe", "qwen3",
            "qwen3_moe", "seed_oss", "smollm3", "starcoder2",
        ),
        _PLAIN,
    )
    | dict.fromkeys(("cohere", "olmo2", "olmo3", "olmoe"), _NORM_OVER_HEADS)
    | {
        "phi": Layout(out="dense"),
        "stablelm": Layout(head_norms="k_layernorm.norms"),
        "phi3": Layout(separate=(), fused="qkv_proj"),
        "dbrx": Layout(
            layers="blocks",
            attention="norm_attn_norm.attn",
            separate=(),
            fused="Wqkv",
            out="out_proj",
            heads_field=("n_heads",),
            kv_heads_field=("attn_config", "kv_n_heads"),
        ),
    }
)  # fmt: skip

_NO_FIELD = "its architecture has as many K/V heads as query heads, and no field in its config to say otherwise"
_LATENT = (
    "it has multi-head latent attention: what it caches is one compressed vector that all heads share, so there are "
    "no K/V heads to merge"
)
_NO_ATTENTION = "it has no attention heads: its memory is a state of fixed size"
_HYBRID = "it mixes attention with recurrent layers, which this converter does not know"

REFUSED: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(
        (
            "bart", "bert", "biogpt", "blenderbot", "bloom", "codegen", "ctrl", "gpt2", "gpt_neo", "gpt_neox",
            "gpt_neox_japanese", "gptj", "longt5", "mbart", "mpt", "mt5", "openai-gpt", "opt", "pegasus", "persimmon",
            "roberta", "switch_transformers", "t5", "umt5", "whisper", "xglm", "xlnet",
        ),
        _NO_FIELD,
    )
    | dict.fromkeys(
        (
            "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "kimi_k2", "kimi_k25",
            "longcat_flash", "minicpm3",
        ),
        _LATENT,
    )
    | dict.fromkeys(("falcon_mamba", "mamba", "mamba2", "rwkv", "xlstm"), _NO_ATTENTION)
    | dict.fromkeys(
        (
            "bamba", "falcon_h1", "granitemoehybrid", "jamba", "kimi_linear", "lfm2", "lfm2_moe", "minimax",
            "nemotron_h", "qwen3_5", "qwen3_5_moe", "qwen3_next", "recurrent_gemma", "zamba", "zamba2",
        ),
        _HYBRID,
    )
    | {
        "falcon": (
            "its code in transformers copies K and V to every query head before it caches them, so fewer K/V heads "
            "would not make the cache smaller"
        ),
        "gpt_bigcode": "its config can say one K/V head or all of them (multi_query) and nothing between",
    }
)  # fmt: skip


def layout_of(config: Mapping[str, Any]) -> tuple[str, Layout]:
    """The family of a config, and its layout.

    Raises:
        ValueError: a family without K/V heads to merge (the message says why), or one that is not listed.
    """
    family = config.get("model_type")
    if not isinstance(family, str):
        raise ValueError(f"config.json must state its model_type, got {family!r}")
    if family in REFUSED:
        raise ValueError(f"{family} cannot have fewer K/V heads: {REFUSED[family]}")
    if family not in LAYOUTS:
        raise ValueError(f"{family} is not a family this converter knows: {', '.join(sorted(LAYOUTS))}")
    if "kv_lora_rank" in text_config(config):
        raise ValueError(f"{family} cannot have fewer K/V heads: {_LATENT}")
    return family, LAYOUTS[family]


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config that describes the language model: ``text_config`` if there is one, else the config."""
    nested = config.get("text_config")
    return nested if isinstance(nested, Mapping) else config


def get_field(config: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """A field of a config, or None where it or its parent is missing."""
    value: Any = config
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def with_field(config: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A copy of the config with one field set. All other fields and the order of keys stay."""
    key, *rest = path
    if not rest:
        return {**config, key: value}
    nested = config.get(key)
    return {**config, key: with_field(nested if isinstance(nested, Mapping) else {}, tuple(rest), value)}
