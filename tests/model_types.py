"""Every model type of the installed transformers as a configuration file: as its class writes it, and a small one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from attention.configs import hf_classes
from attention.configs.families import ordinary
from attention.configs.names import LAYERS

FEW_LAYERS = {"gemma3n_text": 20, "muse_spark_text": 12}
"""The number of layers a small model of the type needs, where 12 do not show every kind of layer."""
STATED: dict[str, dict[str, Any]] = {
    # what these files always state and a class's defaults leave out
    **{name: {"is_decoder": True} for name in ordinary.DECODING_ENCODERS},
    "bamba": {"attn_layer_indices": [1, 3]},
    "glm4_moe": {"head_dim": 128},
    "qwen3_omni_moe_text": {"head_dim": 128},
    "glm4v_moe_text": {"head_dim": 128},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 6},
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]]},
    "mllama_text_model": {"cross_attention_layers": [3, 8]},
    "zamba2": {"num_hidden_layers": 54},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 6},
    "deepseek_v2": {"num_experts_per_tok": 2, "moe_intermediate_size": 1408},
    "qwen4_exp_text": {
        **{"eos_token_id": 1, "ple_layer_ids": [1, 2], "ple_embed_dim": 2048, "indexer_n_heads": 4},
        **{"indexer_kv_heads": 1, "indexer_head_dim": 256, "indexer_budget": 64, "indexer_compress_ratio": 8},
    },
    "dots3_note_text": {"sliding_window": 61},
    "zaya": {"sliding_window": 61, "layer_types": ["hybrid", "hybrid_sliding"] * 6},
}


@cache
def types() -> tuple[str, ...]:
    """All model types."""
    return tuple(sorted(hf_classes.known_types()))


def written(model_type: str, **stated: Any) -> dict[str, Any]:
    """What transformers writes as the type's configuration; only the name where it cannot make one without more."""
    from transformers import AutoConfig

    try:
        with hf_classes.quiet():
            made = AutoConfig.for_model(model_type, **stated).to_dict()
    except Exception:  # foreign code that wants more
        return {"model_type": model_type}
    out: dict[str, Any] = json.loads(json.dumps(_plain(made)))
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def small(model_type: str) -> dict[str, Any]:
    """The same with few layers and, where its class has one, a window that a short context fills."""
    from transformers import AutoConfig

    with hf_classes.quiet():
        blank = AutoConfig.for_model(model_type)
    few = FEW_LAYERS.get(model_type, 12)
    stated = dict(STATED.get(model_type, {}))
    fields = type(blank).__dataclass_fields__
    for name in (*LAYERS, "decoder_layers", "num_decoder_layers", "encoder_layers", "layers"):
        default = getattr(fields.get(name), "default", None)
        if isinstance(default, int):
            stated.setdefault(name, min(few, default))
    for name in ("sliding_window", "attention_chunk_size", "attention_window_size", "sliding_window_size"):
        if isinstance(getattr(fields.get(name), "default", None), int):
            stated.setdefault(name, 61)
    return {**written(model_type, **stated), **STATED.get(model_type, {})}
