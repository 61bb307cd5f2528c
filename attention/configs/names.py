"""Which fields of a config.json decide its cache, and what their values must be.

Only the fields named here are read. Everything else in a file (rope scaling, token ids, quantisation of the weights,
the vision tower …) cannot change the size of the cache and cannot make a file unreadable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attention.errors import shown
from attention.spec import MAX_SIZE, check_size

MAX_LAYERS = 10_000
"""Most layers accepted; the deepest published decoders have a few hundred."""

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads")
WIDTH = ("hidden_size", "n_embd", "n_embed", "d_model")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads", "kv_n_heads")
CONTEXT = (
    "max_position_embeddings",
    "n_positions",
    "seq_length",
    "max_seq_len",
    "max_sequence_length",
    "model_max_length",
    "n_ctx",
)

POSITIVE = frozenset(
    (
        *LAYERS,
        *HEADS,
        *WIDTH,
        *KV_HEADS,
        *CONTEXT,
        *(
            "num_decoder_layers",
            "num_transformer_layers",
            "decoder_layers",
            "decoder_attention_heads",
            "kv_channels",
            "d_kv",
            "dim_head",
            "attention_head_dim",
        ),
        *("multi_query_group_num", "num_query_groups", "num_attention_groups", "global_head_dim"),
        *("num_global_key_value_heads", "swa_num_key_value_heads", "swa_num_attention_heads", "swa_head_dim"),
        *("swa_v_head_dim", "num_attn_heads_swa", "num_swa_attention_heads", "num_swa_key_value_heads"),
        *("num_sliding_attention_heads", "sliding_window_size", "attention_window_size", "window_size"),
        *("index_head_dim", "index_topk", "attention_chunk_size", "local_attention"),
        *("linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim"),
        *("linear_conv_kernel_dim", "linear_num_heads", "linear_head_dim", "short_conv_kernel_size"),
        *("full_attention_interval", "attn_layer_period", "layer_group_size", "conv_L_cache"),
        *("mamba_num_heads", "mamba_n_heads", "n_mamba_heads", "mamba_head_dim", "mamba_headdim"),
        *("mamba_n_groups", "mamba_ngroups", "n_groups", "ssm_state_size", "mamba_d_state", "state_size"),
        *("mamba_expand", "mamba_d_ssm", "mamba_d_conv", "conv_kernel", "expand", "conv1d_width", "lru_width"),
        *(
            "cla_share_factor",
            "num_experts_per_tok",
            "sparse_index_dim",
            "index_topk_blocks",
            "index_block_size",
            "sparse_topk_blocks",
            "sparse_block_size",
            "n_shared_head",
            "intermediate_size",
            "compress_rate_csa",
            "compress_rate_hca",
        ),
        *("layers", "embed_dim"),  # Kosmos
        # encoder-decoders
        *("num_decoder_attention_heads", "max_source_positions", "prompt_length"),
        # short convolutions and indexers
        *("conv_kernel_size", "sconv_kernel_size", "cca_time0", "cca_time1", "ple_conv_kernel_size", "ngram_size"),
        *("hc_count", "indexer_n_heads", "indexer_kv_heads", "indexer_head_dim", "indexer_budget"),
        *("indexer_compress_ratio", "index_kpool", "swa_kv_lora_rank", "H_cycles", "L_cycles", "num_layers_per_stack"),
        "group_norm_size",
    )
)
"""Whole numbers of at least 1 (null counts as absent)."""

NATURAL = frozenset(
    (
        *("kv_lora_rank", "q_lora_rank", "sliding_window", "max_window_layers", "num_kv_shared_layers"),
        *("attn_layer_offset", "num_nextn_predict_layers", "no_rope_layer_interval"),
        *("index_topk_freq", "index_skip_topk_offset", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"),
        # Cohere 2 MoE: the layers before the first mixture have windows of another pattern
        *("first_k_dense_replace", "prefix_dense_sliding_window_pattern"),
        *("swa_qk_rope_head_dim", "swa_qk_nope_head_dim"),
        "head_dim",  # in GLM-5.3 it is the RoPE part of a latent, and 0 where a latent has none
    )
)
"""Whole numbers of at least 0."""

FLAGS = frozenset(
    (
        *("multi_query", "new_decoder_architecture", "multi_query_attention", "use_sliding_window"),
        *("attention_k_eq_v", "is_encoder_decoder", "use_mla", "use_cla", "is_decoder", "add_cross_attention"),
        "use_dsa",
    )
)
TEXTS = frozenset(("hybrid_override_pattern", "attention_head_type"))
PER_LAYER = frozenset(
    (
        *("layer_types", "layers_block_type", "attn_type_list", "no_rope_layers", "compress_ratios"),
        *("hybrid_layer_pattern", "indexer_types", "block_configs", "num_key_value_heads_per_layer"),
        *("attention_layers", "num_attention_heads_per_layer", "sparse_attention_layers", "kv_source_layers"),
    )
)
"""Lists with one entry per layer; a longer list (with next-token-prediction layers at its end) is cut."""
LISTS = frozenset(
    (
        *("full_attn_idxs", "sliding_window_layers", "block_types", "_block_types", "attention_types"),
        *("attn_layer_indices", "hybrid_layer_ids", "cross_attention_layers", "kda_layers", "full_attn_layers"),
        *("num_query_heads", "ple_layer_ids", "local_layer_ids"),
    )
)
MAPS = frozenset(
    (
        "attn_config",
        "linear_attn_config",
        "attention_other_setting",
        "sparse_attention_config",
        "compress_rates",
        "per_layer_config",
    )
)
MIXED = frozenset(
    (
        "sliding_window_pattern",
        "global_attn_every_n_layers",
        "_sliding_window_pattern",
        "mamba_d_head",
        "index_topk_pattern",
    )
)
"""Fields that are a whole number in some files and text in others ("LLLG", "auto")."""


def whole(label: str, value: Any, minimum: int = 1, maximum: int = MAX_SIZE) -> int:
    """`check_size` with a message that is short for any value."""
    if not isinstance(value, int) or abs(value) > 2**64:
        raise ValueError(f"{label} must be a whole number up to {maximum:,}, got {shown(value)}")
    return check_size(label, value, minimum, maximum)


def check_fields(raw: Mapping[str, Any], n_layers: int | None, prefix: str, model_type: str) -> dict[str, Any]:
    """The fields of `raw` that are named above, with checked types and per-layer lists cut to `n_layers`.

    Raises:
        ValueError: a field has a wrong type or range; the message names the field, its value and what is accepted.
    """
    out: dict[str, Any] = {}
    for name, value in raw.items():
        if value is None:
            if name in POSITIVE or name in NATURAL or name in PER_LAYER or name in LISTS:
                out[name] = None
            elif name in FLAGS:
                out[name] = False  # the model's code reads null as false, though the class's default may be true
            continue
        label = prefix + name
        if name == "intermediate_size" and model_type not in ("mamba", "falcon_mamba"):
            continue  # it decides weights alone, and is a list in some families
        if name in MIXED:
            out[name] = value if isinstance(value, str) and len(value) <= MAX_LAYERS else whole(label, value)
        elif name in POSITIVE and not (name in KV_HEADS and isinstance(value, list)):
            limit = MAX_LAYERS if name.endswith("layers") or name in LAYERS else MAX_SIZE
            out[name] = whole(label, value, 1, limit)
        elif name in NATURAL:
            out[name] = whole(label, value, 0)
        elif name in FLAGS:
            if not isinstance(value, bool):
                raise ValueError(f"{label} must be true or false, got {shown(value)}")
            out[name] = value
        elif name in TEXTS:
            if not isinstance(value, str) or len(value) > 2 * MAX_LAYERS:
                raise ValueError(f"{label} must be a short text, got {shown(value)}")
            out[name] = value
        elif name in PER_LAYER or name in LISTS or name in KV_HEADS or name == "num_query_heads":
            out[name] = check_list(label, value, n_layers if name in PER_LAYER else None)
        elif name in MAPS:
            if not isinstance(value, Mapping):
                raise ValueError(f"{label} must be an object, got {shown(value)}")
            out[name] = dict(value)
    return out


def check_list(label: str, value: Any, n_layers: int | None) -> list[Any]:
    """The entries of `value`, cut to `n_layers` if that is given.

    Raises:
        ValueError: not a list, too long, or shorter than `n_layers`.
    """
    if not isinstance(value, list | tuple):
        raise ValueError(f"{label} must be a list, got {shown(value)}")
    if len(value) > 2 * MAX_LAYERS:
        raise ValueError(f"{label} must have at most {2 * MAX_LAYERS:,} entries, got {len(value):,}")
    if n_layers is None or not value:
        return list(value)
    if len(value) < n_layers:
        raise ValueError(f"{label} must have an entry for each of the {n_layers} layers, got {len(value)}")
    return list(value[:n_layers])
