"""Mistral's and Llama's original ``params.json``, which has field names of its own and no model_type.

The rules are those of the public code that reads it: mistralai/mistral-inference (``args.py``), meta-llama/llama
(``model.py``). Where K/V heads are not stated, there are as many as query heads. Where the head size is not stated, it
is dim / n_heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOTE = "read as a params.json, the form in which Mistral and Llama first publish their models"
_NAMES = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "max_seq_len": "max_position_embeddings",
    "max_position_embeddings": "max_position_embeddings",
}
_OTHERWISE = ("kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "llama_4_scaling", "attention_pattern")


def is_params(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is a params.json."""
    return not config.get("model_type") and all(name in config for name in ("dim", "n_layers", "n_heads"))


def rewritten(config: Mapping[str, Any]) -> dict[str, Any]:
    """The file in the names of a config.json.

    Raises:
        ValueError: the file describes another kind of attention; the message names the field.
    """
    for name in _OTHERWISE:
        if config.get(name) is not None:
            raise ValueError(f"{name} is stated: this params.json is not of the attention that is described here")
    out = {new: config[old] for old, new in _NAMES.items() if config.get(old) is not None}
    out.setdefault("num_key_value_heads", config["n_heads"])
    window = config.get("sliding_window")
    if isinstance(window, list):
        raise ValueError("sliding_window is a list: which layers it is of is not described here for a params.json")
    return {**out, "model_type": "llama" if window is None else "mistral", "sliding_window": window}
