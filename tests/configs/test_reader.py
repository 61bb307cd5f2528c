"""Published configurations against what is known of them, element by element."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attention.configs.reader import MAX_BYTES, load_config, spec_from_config
from attention.memory.footprint import cache_bytes, sequence_bytes
from attention.spec import FixedState, Kind, ModelSpec, PositionState, Role

DATA = Path(__file__).parents[1] / "data"
CONFIGS = DATA / "configs"
EXPECTED = json.loads((DATA / "configs_expected.json").read_text())
MORE = json.loads((DATA / "configs_more.json").read_text())
GIB = 2**30


def spec_of(name: str) -> ModelSpec:
    return spec_from_config(load_config(CONFIGS / f"{name}.json"), name)


def elements(spec: ModelSpec, context: int) -> int:
    """Cached elements with an entry per position, without cross-attention: the expectations count these."""
    return sum(
        state.elements_per_position * state.positions(context)
        for layer in spec.layers
        for state in layer.states
        if isinstance(state, PositionState) and state.role is not Role.CROSS
    )


def test_every_configuration_has_an_expectation() -> None:
    assert {path.stem for path in CONFIGS.glob("*.json")} == set(EXPECTED)
    assert len(EXPECTED) >= 138


@pytest.mark.parametrize("name", EXPECTED)
def test_published_configuration(name: str) -> None:
    spec, expected = spec_of(name), EXPECTED[name]
    for context, count in expected["elements_at"].items():
        assert elements(spec, int(context)) == count, context
    assert spec.n_layers == expected["layers"]
    assert spec.model_type
    assert spec.max_context is None or spec.max_context >= 512


GROUP_KINDS = {"full": Kind.FULL, "window": Kind.SLIDING, "chunk": Kind.CHUNKED, "mla": Kind.LATENT}


@pytest.mark.parametrize("name", EXPECTED)
def test_layer_groups(name: str) -> None:
    spec = spec_of(name)
    for group in EXPECTED[name]["groups"]:
        kind = GROUP_KINDS.get(group["kind"])
        if kind is None or any(layer.kind is Kind.CROSS for layer in spec.layers):
            continue
        matching = [layer for layer in spec.layers if layer.kind is kind]
        assert len(matching) == group["count"]
        for layer in matching:
            state = layer.key_value
            assert state is not None
            assert state.elements_per_position == group["elems_per_token"]
            assert state.window == group.get("window")


@pytest.mark.parametrize("name", MORE)
def test_more_published_configurations(name: str) -> None:
    row = MORE[name]
    spec = spec_from_config(row["config"], name)
    for context, count in row["elements_at"].items():
        assert elements(spec, int(context)) == count, context


# figures of public threads, which say GiB or bytes of one sequence with a 16-bit cache
@pytest.mark.parametrize(
    ("name", "context", "size"),
    [
        ("google__gemma-3-27b-it", 131_072, 10.41 * GIB),
        ("google__gemma-3-1b-it", 32_768, 139 * 2**20),
        ("deepseek-ai__DeepSeek-V3", 163_840, 10.72 * GIB),
        ("Qwen__Qwen3.5-27B", 262_144, 16.00 * GIB),
    ],
)
def test_golden_totals(name: str, context: int, size: float) -> None:
    # the threads count keys and values only, and print two or three digits
    assert 2 * elements(spec_of(name), context) == pytest.approx(size, rel=0.001)


@pytest.mark.parametrize(
    ("name", "context", "per_token"),
    [
        ("meta-llama__Meta-Llama-3.1-8B", 8192, 131_072),
        ("openai__gpt-oss-120b", 100, 73_728),
        ("openai__gpt-oss-120b", 129, 36_864),
        ("deepseek-ai__DeepSeek-V3", 5, 70_272),
        ("meta-llama__Meta-Llama-3.1-405B", 8192, 516_096),
        ("tiiuae__falcon-7b", 8192, 8_192),
        ("tiiuae__falcon-7b-instruct", 8192, 8_192),
        ("tiiuae__falcon-40b", 8192, 122_880),
        ("bigscience__bloom", 8192, 4_014_080),
        ("google__gemma-3-27b-it", 1024, 81_920),
        ("google__gemma-3-27b-it", 1023, 507_904),
        ("zai-org__GLM-4.5", 8192, 376_832),
    ],
)
def test_golden_growth(name: str, context: int, per_token: int) -> None:
    assert cache_bytes(spec_of(name), context).bytes_per_token == per_token


def test_recurrent_states_are_those_of_the_models_own_code() -> None:
    """Qwen3-Next: a convolution over 8192 channels and 4 positions in bf16, 32 matrices of 128 x 128 in fp32."""
    spec = spec_of("Qwen__Qwen3-Next-80B-A3B-Instruct")
    layer = next(layer for layer in spec.layers if layer.kind is Kind.RECURRENT)
    assert layer.states == (
        FixedState(Role.CONVOLUTION, 8192 * 4, None, 32),
        FixedState(Role.RECURRENT, 32 * 128 * 128, "fp32", 32),
    )
    assert sequence_bytes(spec, 0) == 36 * (8192 * 4 * 2 + 32 * 128 * 128 * 4)


def test_layers_of_one_model_may_differ_in_heads() -> None:
    spec = spec_of("baichuan-inc__Baichuan-M1-14B-Instruct")
    shapes = {(layer.n_kv_heads, layer.k_head_dim, layer.kind) for layer in spec.layers}
    assert shapes == {(2, 256, Kind.FULL), (8, 128, Kind.SLIDING)}


def test_shared_layers_name_the_layer_they_read() -> None:
    spec = spec_of("google__gemma-3n-E2B-it")
    shared = [layer for layer in spec.layers if layer.kind is Kind.SHARED]
    assert len(shared) == 10
    assert {layer.shares for layer in shared} == {18, 19}


def test_falcon_says_that_transformers_stores_more() -> None:
    assert any("repeats K and V" in note for note in spec_of("tiiuae__falcon-40b").notes)


# nested configurations


def test_nested_defaults_are_legitimate_and_noted() -> None:
    """gemma-3-4b-it states neither heads nor K/V heads nor head_dim."""
    spec = spec_from_config(MORE["google/gemma-3-4b-it"]["config"])
    assert spec.n_heads == 8
    assert spec.n_kv_heads == 4
    assert spec.head_dim == 256
    assert sum("class default" in note for note in spec.notes) >= 3


def test_the_vision_tower_is_never_read() -> None:
    config = {
        "model_type": "qwen2_vl",
        "num_hidden_layers": 28,
        "hidden_size": 3584,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vision_config": {"num_hidden_layers": 3, "num_attention_heads": 2, "head_dim": 7, "hidden_size": 14},
    }
    assert elements(spec_from_config(config), 1) == 28 * 2 * 4 * 128


def test_a_text_config_without_a_type_takes_its_parents() -> None:
    config = {"model_type": "gemma3", "text_config": {"num_hidden_layers": 34, "sliding_window": 1024}}
    assert spec_from_config(config).model_type == "gemma3_text"


def test_quantised_weights_say_nothing_of_the_cache() -> None:
    config = load_config(CONFIGS / "meta-llama__Meta-Llama-3.1-8B.json")
    quantised = {**config, "quantization_config": {"quant_method": "fp8", "bits": 4}}
    assert spec_from_config(quantised).layers == spec_from_config(config).layers
    assert spec_from_config(quantised).notes == ()
    scheme = {**config, "quantization_config": {"kv_cache_scheme": {"num_bits": 8}}}
    assert any("kv_cache_scheme" in note for note in spec_from_config(scheme).notes)


# dtypes

LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 308,
    "num_attention_heads": 14,
    "num_key_value_heads": 7,
}


@pytest.mark.parametrize(
    ("fields", "dtype"),
    [
        ({}, None),
        ({"torch_dtype": None}, None),
        ({"torch_dtype": "float16"}, "fp16"),
        ({"dtype": "bfloat16"}, "bf16"),
        ({"dtype": "torch.float32"}, "fp32"),
    ],
)
def test_dtype_is_read_or_unknown(fields: dict[str, object], dtype: str | None) -> None:
    assert spec_from_config({**LLAMA, **fields}).model_dtype == dtype


# refusals: each names the field


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_hidden_layers": None}, "num_hidden_layers"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_hidden_layers": -3}, "num_hidden_layers"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers"),
        ({"num_hidden_layers": 10_001}, "num_hidden_layers"),
        ({"num_hidden_layers": 2.0}, "num_hidden_layers"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
        ({"num_attention_heads": None}, "num_attention_heads"),
        ({"num_attention_heads": [14]}, "num_attention_heads"),
        ({"num_attention_heads": 13}, "num_key_value_heads"),
        ({"num_key_value_heads": 5}, "num_key_value_heads"),
        ({"num_key_value_heads": 28}, "num_key_value_heads"),
        ({"num_key_value_heads": 7.0}, "num_key_value_heads"),
        ({"num_key_value_heads": [7, 7]}, "num_key_value_heads"),
        ({"hidden_size": 310}, "head_dim"),
        ({"hidden_size": None}, "hidden_size"),
        ({"head_dim": 0}, "head_dim"),
        ({"head_dim": "15"}, "head_dim"),
        ({"n_layer": 3}, "n_layer"),
        ({"torch_dtype": "bfloat17"}, "torch_dtype"),
        ({"torch_dtype": 16}, "torch_dtype"),
        ({"max_position_embeddings": -1}, "max_position_embeddings"),
        ({"text_config": 3}, "text_config"),
        ({"text_config": []}, "text_config"),
        ({"model_type": None}, "model_type"),
        ({"model_type": 7}, "model_type"),
        ({"model_type": "no_such_thing"}, "no_such_thing"),
        ({"model_type": "bert"}, "encoder"),
        ({"model_type": "clip_vision_model"}, "no text decoder"),
        ({"model_type": "gemma3"}, "text_config"),
        ({"model_type": "vision-encoder-decoder"}, "joins two models"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        spec_from_config({**LLAMA, **change})


def test_a_width_the_heads_do_not_divide_is_named_rather_than_the_kv_heads_left_out() -> None:
    silent = {key: value for key, value in LLAMA.items() if key not in ("num_key_value_heads", "head_dim")}
    with pytest.raises(
        ValueError, match="head_dim is missing, and hidden_size = 4096 is not a multiple of 14 query heads"
    ):
        spec_from_config({**silent, "hidden_size": 4096})


def test_stated_head_dim_wins_over_width() -> None:
    assert spec_from_config({**LLAMA, "head_dim": 26}).head_dim == 26
    # and makes an odd width harmless
    assert spec_from_config({**LLAMA, "hidden_size": 310, "head_dim": 26}).head_dim == 26


def test_null_kv_heads_mean_multi_head_and_absent_ones_the_class_default() -> None:
    assert spec_from_config({**LLAMA, "num_key_value_heads": None}).n_kv_heads == 14
    qwen = {"model_type": "mistral", "num_hidden_layers": 2, "hidden_size": 256, "num_attention_heads": 16}
    spec = spec_from_config({**qwen, "sliding_window": None})
    assert spec.n_kv_heads == 8
    assert any("num_key_value_heads" in note for note in spec.notes)


def test_per_layer_lists_are_cut_when_longer_and_refused_when_shorter() -> None:
    base = {**LLAMA, "model_type": "gpt_oss", "head_dim": 22, "sliding_window": 3}
    kinds = ["sliding_attention", "full_attention", "full_attention"]
    assert [layer.kind for layer in spec_from_config({**base, "layer_types": kinds}).layers] == [
        Kind.SLIDING,
        Kind.FULL,
    ]
    with pytest.raises(ValueError, match="layer_types"):
        spec_from_config({**base, "layer_types": kinds[:1]})
    with pytest.raises(ValueError, match="layer_types"):
        spec_from_config({**base, "layer_types": ["full_attention", "telepathy"]})


# files


def test_load_config_reads_paths_bytes_and_infinity(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "llama", "limit": Infinity}')
    assert load_config(path)["limit"] == float("inf")
    assert load_config(path.read_bytes()) == load_config(str(path))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[1]", "object at the top"),
        (b"null", "object at the top"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "deep"),
        (b"[" * 500_000, "deep"),
        (b'{"a": "' + b"x" * MAX_BYTES + b'"}', "bytes"),
        (b'{"a": ' + b"9" * 5000 + b"}", "config.json"),
    ],
)
def test_load_config_refuses(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_config(data)


def test_load_config_refuses_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.json", "\0"):
        with pytest.raises(ValueError, match="cannot be read"):
            load_config(path)


def test_configuration_must_be_an_object_of_bounded_size() -> None:
    no_object: Any = []
    with pytest.raises(ValueError, match="object"):
        spec_from_config(no_object)
    deep: dict[str, object] = {}
    for _ in range(50):
        deep = {"a": deep}
    with pytest.raises(ValueError, match="deep"):
        spec_from_config({**LLAMA, **deep})
    with pytest.raises(ValueError, match="values"):
        spec_from_config({**LLAMA, "a": [0] * 600_000})
    no_text_key: Any = {3: 4}
    with pytest.raises(ValueError, match="keys"):
        spec_from_config({**LLAMA, **no_text_key})
