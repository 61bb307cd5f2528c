"""Small random checkpoints of each kind, as transformers saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

SIZES = {
    "vocab_size": 331, "hidden_size": 48, "intermediate_size": 113, "num_hidden_layers": 5, "num_attention_heads": 6,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "tie_word_embeddings": False,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e4, "factor": 8.0, "low_freq_factor": 1.0,
                                  "high_freq_factor": 4.0, "original_max_position_embeddings": 128}},
    "mistral": {"sliding_window": 37},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e5, "factor": 2.0}},
    "smollm3": {"no_rope_layers": [1, 1, 0, 1, 0], "pad_token_id": None},
    "gemma3_text": {"sliding_window": 37, "query_pre_attn_scalar": 29, "layer_types": [
        "sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "full_attention"]},
}  # fmt: skip
"""What each kind has beside SIZES. Every switch of the kind is used."""


def made(kind: str, folder: Path) -> Any:
    """A model of transformers with random weights, also saved to `folder`."""
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, **CONFIGS[kind]})
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().float()
        for name, weight in model.named_parameters():
            # from_config draws weights of 0.02 and norms of one; larger ones make every part show in the logits
            torch.nn.init.normal_(weight, 1.0 if "norm" in name else 0.0, 0.1)
    model.save_pretrained(folder)
    return model
