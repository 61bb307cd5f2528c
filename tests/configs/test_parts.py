"""Files in other forms than a plain config.json: params.json, flat composites, long ones, layer-by-layer ones, and
published types that transformers has no code for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from attention.configs.parts import decoder_part
from attention.configs.reader import MAX_BYTES, load_config, spec_from_config
from attention.memory.footprint import sequence_bytes
from attention.spec import Kind, PositionState, Role

PARAMS = {"dim": 308, "n_layers": 3, "n_heads": 14, "vocab_size": 32000}
FLAT = {"num_hidden_layers": 40, "num_attention_heads": 32, "hidden_size": 4096, "num_key_value_heads": 2}


def test_params_files_are_read_by_their_own_rules() -> None:
    spec = spec_from_config(PARAMS)
    assert (spec.n_layers, spec.n_kv_heads, spec.head_dim) == (3, 14, 22)
    assert any("params.json" in note for note in spec.notes)
    windowed = spec_from_config({**PARAMS, "n_kv_heads": 7, "head_dim": 26, "sliding_window": 13})
    assert (windowed.n_kv_heads, windowed.head_dim, windowed.layers[0].kind) == (7, 26, Kind.SLIDING)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"n_heads": None}, "num_attention_heads"),
        ({"dim": "308"}, "hidden_size"),
        ({"kv_lora_rank": 64}, "kv_lora_rank"),
        ({"sliding_window": [13, None]}, "sliding_window"),
        ({"n_kv_heads": 5}, "num_key_value_heads"),
    ],
)
def test_params_files_that_do_not_fit_are_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        spec_from_config({**PARAMS, **change})


def test_a_flat_composite_is_read_where_its_class_agrees_with_it() -> None:
    assert decoder_part({"model_type": "glm4v", **FLAT})[2] == "glm4v_text"
    with pytest.raises(ValueError, match="text_config is missing"):
        spec_from_config({"model_type": "glm4v", **FLAT, "num_hidden_layers": 13})


def test_layers_that_differ_are_read_or_refused() -> None:
    gemma: dict[str, Any] = {
        **{"model_type": "gemma4_text", "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4},
        **{"hidden_size": 128, "head_dim": 16, "sliding_window": 13},
        "layer_types": ["sliding_attention", "full_attention"],
        "per_layer_config": {"1": {"head_dim": 44, "num_key_value_heads": 2}},
    }
    shapes = [(layer.n_kv_heads, layer.k_head_dim) for layer in spec_from_config(gemma).layers]
    assert shapes == [(4, 16), (2, 44)]
    llama = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 8, "hidden_size": 128}
    with pytest.raises(ValueError, match="per_layer_config is stated"):
        spec_from_config({**llama, "per_layer_config": {"1": {"num_key_value_heads": 2}}})


def test_long_files_are_read_and_longer_ones_refused() -> None:
    names = [f"model.layers.{i}.block_sparse_moe.experts.{j}.w1" for i in range(62) for j in range(500)]
    config = {**PARAMS, "quantization_config": {"ignore": names}}
    data = json.dumps(config).encode()
    assert 1_000_000 < len(data) < MAX_BYTES
    assert spec_from_config(load_config(data)).n_layers == 3
    hostile = b'{"a":"' + b'\\"' * 3_900_000  # an unfinished text full of escapes is read once, not again and again
    with pytest.raises(ValueError, match="not valid JSON"):
        load_config(hostile)


def test_phi4flash_keeps_one_full_cache() -> None:
    """microsoft/Phi-4-mini-flash-reasoning, by its SambaYCache: 9 Mamba layers, 8 windows, one full layer."""
    published = {
        **{"model_type": "phi4flash", "hidden_size": 2560, "num_attention_heads": 40, "num_hidden_layers": 32},
        **{"num_key_value_heads": 20, "sliding_window": 512, "mb_per_layer": 2, "torch_dtype": "bfloat16"},
    }
    spec = spec_from_config(published)
    row = 2 * 20 * 64 * 2
    assert sequence_bytes(spec, 20_000) == 9 * 5120 * (4 + 16) * 2 + 8 * 512 * row + 20_000 * row


def test_ring_linear_keeps_matrices_and_every_fifth_cache() -> None:
    """inclusionAI/Ring-mini-linear-2.0 (arXiv:2510.19338)."""
    published = {
        **{"model_type": "bailing_moe_linear", "num_hidden_layers": 20, "num_attention_heads": 16, "head_dim": 128},
        **{"hidden_size": 2048, "num_key_value_heads": 4, "layer_group_size": 5, "torch_dtype": "bfloat16"},
    }
    assert sequence_bytes(spec_from_config(published), 1000) == 16 * 16 * 128 * 128 * 4 + 4 * 1000 * 2 * 4 * 128 * 2
    uneven = spec_from_config({**published, "num_hidden_layers": 22})
    assert [layer.kind for layer in uneven.layers[-3:]] == [Kind.FULL] * 3


def test_ring_2_5_shares_its_type_with_3_0() -> None:
    sizes: dict[str, Any] = {
        **{"model_type": "bailing_hybrid", "num_hidden_layers": 4, "num_attention_heads": 14, "hidden_size": 308},
        **{"head_dim": 22, "kv_lora_rank": 34, "qk_rope_head_dim": 26, "qk_nope_head_dim": 38, "v_head_dim": 46},
        **{"layer_group_size": 2, "torch_dtype": "bfloat16"},
    }
    latents, matrices = 2 * 61 * (34 + 26) * 2, 2 * 14 * 22 * 22 * 4
    assert sequence_bytes(spec_from_config({**sizes, "group_norm_size": 2}), 61) == latents + matrices
    convolutions = 2 * 3 * 14 * 22 * 4 * 2
    kda = spec_from_config({**sizes, "short_conv_kernel_size": 4})
    assert sequence_bytes(kda, 61) == latents + matrices + convolutions
    with pytest.raises(ValueError, match="layer_group_size"):
        spec_from_config({**sizes, "num_hidden_layers": 5, "short_conv_kernel_size": 4})


def test_t5gemma_keeps_the_whole_source_beside_a_window() -> None:
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 14, "hidden_size": 308, "head_dim": 22}
    decoder = {"model_type": "t5_gemma_module", **sizes, "num_key_value_heads": 7, "sliding_window": 13}
    layers = spec_from_config({"model_type": "t5gemma", "decoder": decoder}).layers
    states = [state for layer in layers for state in layer.states if isinstance(state, PositionState)]
    assert [state.window for state in states if state.role is Role.KEY_VALUE] == [13, None]
    assert [state.window for state in states if state.role is Role.CROSS] == [None, None]
