"""Fields that we might silently read otherwise than transformers' class: they are read as it reads them, or refused."""

from __future__ import annotations

from typing import Any

import pytest

from attention.configs.reader import spec_from_config
from attention.memory.footprint import sequence_bytes

WIDE = {"num_hidden_layers": 1, "num_attention_heads": 128, "hidden_size": 8192, "torch_dtype": "bfloat16"}
FALCON = {"model_type": "falcon", **WIDE, "new_decoder_architecture": False}
CODE = {"model_type": "gpt_bigcode", "n_layer": 1, "n_head": 128, "n_embd": 8192, "multi_query": True}
MPT = {"model_type": "mpt", "n_layers": 1, "n_heads": 128, "d_model": 8192}
QWEN = {"model_type": "qwen2_vl", **WIDE, "num_key_value_heads": 128}
SEED = {"model_type": "seed_oss", **WIDE, "num_key_value_heads": 128}
JET = {"model_type": "jetmoe", "num_hidden_layers": 1, "hidden_size": 2048, "num_key_value_heads": 16}
T5 = {"model_type": "t5", "num_layers": 1, "num_heads": 8, "d_model": 512, "d_kv": 64}


@pytest.mark.parametrize(
    ("config", "elements"),
    [
        (FALCON | {"multi_query": None}, 2 * 128 * 64),
        (FALCON, 2 * 64),
        (CODE | {"head_dim": 128}, 2 * 64),
        (MPT | {"head_dim": 32}, 2 * 128 * 64),
        (QWEN | {"head_dim": 32}, 2 * 128 * 64),
        (SEED | {"head_dim": None}, 2 * 128 * 64),
        (SEED, 2 * 128 * 128),
        (JET | {"num_experts_per_tok": 2, "num_attention_heads": 32, "kv_channels": 96}, 2 * 16 * 96),
    ],
)
def test_as_the_class_reads_it(config: dict[str, Any], elements: int) -> None:
    assert sequence_bytes(spec_from_config(config), 61, "bf16") == elements * 61 * 2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (T5 | {"head_dim": 16}, "head_dim = 16 contradicts d_kv = 64"),
        (T5 | {"sliding_window": 32}, "sliding_window = 32 is stated"),
        (MPT | {"sliding_window": 32}, "sliding_window = 32 is stated"),
        (
            JET | {"num_attention_heads": 32, "kv_channels": 96, "head_dim": 64},
            "kv_channels = 96 contradicts head_dim = 64",
        ),
    ],
)
def test_what_cannot_be_told_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec_from_config(config)


@pytest.mark.parametrize("name", ["deepseek-ai__DeepSeek-V3", "deepseek-ai__DeepSeek-V2-Lite"])
def test_a_window_beside_a_latent_vector_is_refused(name: str) -> None:
    from tests.configs.test_reader_fuzz import CONFIGS, load_config

    with pytest.raises(ValueError, match="sliding_window = 32 is stated"):
        spec_from_config(load_config(CONFIGS / f"{name}.json") | {"sliding_window": 32})


def test_one_field_under_two_names() -> None:
    config = {
        "model_type": "glm4_moe_lite", "num_hidden_layers": 1, "num_attention_heads": 4, "hidden_size": 256,
        "kv_lora_rank": 32, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 16, "head_dim": 64,
    }  # fmt: skip
    with pytest.raises(ValueError, match="head_dim = 64 contradicts qk_rope_head_dim = 16"):
        spec_from_config(config)
