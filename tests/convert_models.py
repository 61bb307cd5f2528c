"""Small random checkpoints of every family, made by transformers itself, for the conversion's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

N_LAYERS, N_HEADS, HIDDEN, VOCAB = 3, 12, 120, 131

COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": 53,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": N_HEADS,
    "max_position_embeddings": 61,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
"""hidden_size / num_attention_heads is 10; families with a head_dim of their own get another one."""

MOE: dict[str, Any] = {  # grouped matrix products want rows of 16 bytes
    "num_experts": 5,
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 20,
    "intermediate_size": 52,
}
HEAD_DIM: dict[str, Any] = {"head_dim": 14}

FAMILIES: dict[str, dict[str, Any]] = {
    "apertus": {},
    "arcee": {},
    "cohere": {"use_qk_norm": True, "attention_bias": True},
    "cohere2": HEAD_DIM,
    "dbrx": {"d_model": HIDDEN, "n_heads": N_HEADS, "n_layers": N_LAYERS, "max_seq_len": 61},
    "dots1": {**MOE, **HEAD_DIM, "n_routed_experts": 5, "n_shared_experts": 1, "first_k_dense_replace": 1},
    "ernie4_5": {"use_bias": True, **HEAD_DIM},
    "exaone4": HEAD_DIM,
    "gemma": {**HEAD_DIM, "tie_word_embeddings": True},
    "gemma2": {**HEAD_DIM, "tie_word_embeddings": True},
    "gemma3_text": {**HEAD_DIM, "tie_word_embeddings": True},
    "glm": {**HEAD_DIM, "attention_bias": True},
    "glm4": {**HEAD_DIM, "attention_bias": True},
    "glm4_moe": {**MOE, **HEAD_DIM, "use_qk_norm": True, "n_routed_experts": 5, "n_shared_experts": 1,
                 "first_k_dense_replace": 1, "attention_bias": True},
    "gpt_oss": {**MOE, **HEAD_DIM},
    "granite": {"attention_bias": True},
    "granitemoe": MOE,
    "helium": {"head_dim": 10},
    "hunyuan_v1_dense": HEAD_DIM,
    "llama": {**HEAD_DIM, "attention_bias": True},
    "ministral": HEAD_DIM,
    "mistral": HEAD_DIM,
    "mixtral": {**MOE, **HEAD_DIM},
    "nemotron": {"attention_bias": True},
    "olmo": {"attention_bias": True, "clip_qkv": 5.0},
    "olmo2": {},
    "olmo3": {},
    "olmoe": MOE,
    "phi": {"qk_layernorm": True, "partial_rotary_factor": 0.4},
    "phi3": {},
    "phimoe": {**MOE, "attention_bias": True},
    "qwen2": {"tie_word_embeddings": True},
    "qwen2_moe": {**MOE, "shared_expert_intermediate_size": 28},
    "qwen3": HEAD_DIM,
    "qwen3_moe": {**MOE, **HEAD_DIM},
    "seed_oss": {**HEAD_DIM, "attention_bias": True},
    "smollm3": {},
    "stablelm": {"qk_layernorm": True, "use_qkv_bias": True},
    "starcoder2": {},
}  # fmt: skip


def make_config(family: str, n_kv_heads: int, **changes: Any) -> Any:
    fields = {**COMMON, **FAMILIES[family], "num_key_value_heads": n_kv_heads, **changes}
    if family == "dbrx":
        fields = {
            k: v for k, v in fields.items() if k not in ("hidden_size", "num_attention_heads", "num_key_value_heads")
        }
        fields["attn_config"] = {"kv_n_heads": n_kv_heads, "clip_qkv": 5.0, "rope_theta": 10000.0}
        fields["ffn_config"] = {"ffn_hidden_size": 37, "moe_num_experts": 3, "moe_top_k": 2, "hidden_size": HIDDEN}
    return AutoConfig.for_model(family, **fields)


def make_model(family: str, n_kv_heads: int, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A model with every parameter random, biases and norms too, so that a test notices if one is forgotten."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(make_config(family, n_kv_heads, **changes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.normal_(centre, 0.1)
    return model.eval()


def save(model: PreTrainedModel, folder: Path, max_shard_size: str = "200KB") -> Path:
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    return folder
